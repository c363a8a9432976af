"""Compare two versions of a contract and name what would break its users.

A change breaks when a message that was right becomes wrong (for producers), or when something
readers rely on may now be absent or of another type (for consumers). New optional properties, new
members of a closed list and looser bounds break nobody: readers ignore what they do not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

_SILENT: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "examples"})
_FLOORS: Final = ("minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum")
_CEILINGS: Final = ("maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum")
_COMPARED: Final = frozenset(
    {"type", "enum", "properties", "required", "items", "propertyNames", "additionalProperties"}
).union(_FLOORS, _CEILINGS)
_DEPTH_MAX: Final = 32
_ABSENT: Final = object()


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """List what breaks between two versions of one contract, each as `pointer: what`.

    Keywords whose order of strictness is not known (patterns, rules, defaults) may not change.

    >>> old = {"type": "object", "properties": {"size": {"type": "integer"}}}
    >>> breaking_changes(old, {"type": "object", "properties": {"size": {"type": "string"}}})
    ['/size: type narrowed, integer is no longer taken', '/size: type widened to string']
    """
    return list(_Comparison(old, new).between("", old, new, depth=0))


class _Comparison:
    """Two whole contracts, against whose definitions references are resolved."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old_parts: Schema = old.get("$defs", {})
        self._new_parts: Schema = new.get("$defs", {})

    def between(self, place: str, old: Any, new: Any, depth: int) -> Iterator[str]:
        """Compare two nodes and everything below them."""
        if depth > _DEPTH_MAX:
            yield f"{place}: nested too deep to compare"
            return
        before, after = _flatten(old, self._old_parts), _flatten(new, self._new_parts)
        yield from (f"{place}: {what}" for what in _of_one_node(before, after))
        yield from self._below(place, before, after, depth + 1)

    def _below(self, place: str, old: Schema, new: Schema, depth: int) -> Iterator[str]:
        properties = new.get("properties", {})
        for name, part in old.get("properties", {}).items():
            if name in properties:
                yield from self.between(f"{place}/{name}", part, properties[name], depth)
            else:
                yield f"{place}/{name}: property removed"
        for keyword in ("items", "propertyNames", "additionalProperties"):
            part, other = old.get(keyword, True), new.get(keyword, True)
            if part != other or keyword in old:
                yield from self.between(f"{place}/{keyword}", part, other, depth)


def _flatten(node: Any, parts: Schema) -> Schema:
    """Put a node in one form: references followed, `or null` and constants as lists."""
    if isinstance(node, bool):
        return {} if node else {"enum": []}
    flat = dict(node)
    if "$ref" in flat:
        target = parts[flat.pop("$ref").removeprefix("#/$defs/")]
        flat = {**_flatten(target, parts), **flat}
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    choices = [_flatten(choice, parts) for choice in flat.get("anyOf", [])]
    real = [choice for choice in choices if choice.get("type") != ["null"]]
    if len(real) == 1 < len(choices):
        del flat["anyOf"]
        flat = {**real[0], **flat, "type": [*real[0].get("type", []), "null"]}
    if isinstance(flat.get("type"), str):
        flat["type"] = [flat["type"]]
    return flat


def _of_one_node(old: Schema, new: Schema) -> Iterator[str]:
    yield from _types(old, new)
    yield from _required(old, new)
    yield from _bounds(old, new)
    if "enum" in new:
        if "enum" not in old:
            yield "closed list added"
        for value in old.get("enum", []):
            if value not in new["enum"]:
                yield f"{value} removed from the closed list"
    for keyword in sorted((old.keys() | new.keys()) - _SILENT - _COMPARED):
        dropped_pattern = keyword == "pattern" and keyword not in new
        if not dropped_pattern and old.get(keyword, _ABSENT) != new.get(keyword, _ABSENT):
            yield f"{keyword} changed"


def _bounds(old: Schema, new: Schema) -> Iterator[str]:
    for keyword in sorted(new.keys() & {*_FLOORS, *_CEILINGS}):
        sign = 1 if keyword in _FLOORS else -1
        if keyword not in old or sign * new[keyword] > sign * old[keyword]:
            yield f"{keyword} tightened to {new[keyword]}"


def _types(old: Schema, new: Schema) -> Iterator[str]:
    before, after = old.get("type", []), new.get("type", [])
    if not after and not before:
        return
    for name in before:
        if name not in after and after and not (name == "integer" and "number" in after):
            yield f"type narrowed, {name} is no longer taken"
    if not before:
        yield f"type narrowed to {', '.join(after)}"
        return
    for name in after or ([] if "enum" in new else ["anything"]):
        if name not in before and not (name == "integer" and "number" in before):
            yield f"type widened to {name}"


def _required(old: Schema, new: Schema) -> Iterator[str]:
    before, after = set(old.get("required", [])), set(new.get("required", []))
    for name in sorted(after - before):
        yield f"{name} is newly required"
    for name in sorted(before - after):
        yield f"{name} is no longer required"
