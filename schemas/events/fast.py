"""Derive, from each pydantic model, the msgspec Struct that the hot path decodes into.

The models are written once; this module only translates them, so the two cannot say different
things. A property test compares their verdicts.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from functools import cache
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from schemas.errors import ConfigError
from schemas.events.body import Strict

COLUMNS: Final[tuple[str, ...]] = (
    "journey_id",
    "notification_id",
    "subject",
    "campaign",
    "tenant",
    "channel",
    "arm",
    "reason",
    "amount_minor",
    "currency",
)

_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")
_SCALARS = (str, int, float, bool, types.NoneType)


@cache
def derive(model: type[Strict]) -> type[msgspec.Struct]:
    """Build the Struct of one model, with every name of `COLUMNS` readable on it.

    A column that the model has no field for is None on the class: read, never decoded.
    Errors: ConfigError for a field type that has no translation.
    """
    hints = get_type_hints(model, include_extras=True)
    namespace: dict[str, Any] = {name: None for name in COLUMNS if name not in model.model_fields}
    namespace["__reduce__"] = _reduce_by(model)
    if model.exactly_one_of:
        namespace["__post_init__"] = _exactly_one(model.exactly_one_of)
    return msgspec.defstruct(
        model.__name__,
        [_field(model, name, hints[name]) for name in model.model_fields],
        namespace=namespace,
        module=__name__,
        frozen=True,
        gc=False,
        kw_only=True,
    )


def _reduce_by(model: type[Strict]) -> Callable[[msgspec.Struct], tuple[Any, ...]]:
    """Pickle a Struct by its model, which has a name that can be imported; the Struct has none."""

    def reduce(struct: msgspec.Struct) -> tuple[Any, ...]:
        return _restore, (model, msgspec.structs.astuple(struct))

    return reduce


def _restore(model: type[Strict], values: tuple[Any, ...]) -> msgspec.Struct:
    """Build the Struct of a model from its fields in order; they were checked when decoded."""
    return derive(model)(**dict(zip(model.model_fields, values, strict=True)))


def _exactly_one(names: tuple[str, ...]) -> Callable[[msgspec.Struct], None]:
    def check(struct: msgspec.Struct) -> None:
        if sum(getattr(struct, name) is not None for name in names) != 1:
            raise ValueError("expected exactly one of the alternatives")  # msgspec rewraps it

    return check


def _field(model: type[Strict], name: str, hint: Any) -> tuple[str, Any] | tuple[str, Any, Any]:
    info = model.model_fields[name]
    kind = _translate(hint)
    if info.is_required():
        return (name, kind)
    if info.default_factory is not None:
        factory = cast("Callable[[], Any]", info.default_factory)
        return (name, kind, msgspec.field(default_factory=factory))
    return (name, kind, info.default)


def _translate(hint: Any) -> Any:
    """Turn one annotation into msgspec's words, from the outside in."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = _bounds(args[1:])
        kind = _translate(args[0])
        return Annotated[kind, msgspec.Meta(**bounds)] if bounds else kind
    if origin is Literal or hint in _SCALARS:
        return hint
    if origin in (Union, types.UnionType):
        return Union[tuple(_translate(arg) for arg in args)]  # noqa: UP007 - a computed union
    if origin is tuple and args[1:] == (...,):
        return tuple[_translate(args[0]), ...]  # type: ignore[misc] # a computed item type
    if origin is dict:
        return dict[_translate(args[0]), _translate(args[1])]  # type: ignore[misc] # computed
    if isinstance(hint, type) and issubclass(hint, Strict):
        return derive(hint)
    raise ConfigError(do="derive", kind="field type", name=str(hint), expected="one named in fast")


def _bounds(metadata: Iterable[Any]) -> dict[str, Any]:
    """Collect the constraints that pydantic keeps in objects of several shapes."""
    found: dict[str, Any] = {}
    for item in metadata:
        for part in (item, *getattr(item, "metadata", ())):
            for name in _BOUNDS:
                value = getattr(part, name, None)
                if value is not None:
                    found[name] = value
            pattern = getattr(part, "pattern", None)
            if pattern is not None:
                found["pattern"] = anchored(pattern)
    return found


def anchored(pattern: str) -> str:
    r"""Close a pattern for Python, whose `$` also matches before a final line feed.

    Errors: ConfigError unless the pattern covers the whole string.

    >>> anchored("^[a-z]+$")
    '^(?:[a-z]+)\\Z'
    """
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise ConfigError(do="derive", kind="pattern", name=pattern, expected="^ and $ around it")
    return rf"^(?:{pattern[1:-1]})\Z"
