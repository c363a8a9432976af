"""Describe the event types for a library that scans bodies: made from the Structs that decode.

So the fields, types and bounds stand in the models alone. What has no description here (patterns,
maps, unions) is a type of its own, whose values the library leaves to the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from msgspec import inspect

from schemas.events import COLUMNS, EventType
from schemas.events.body import Strict

Plan = tuple[tuple[Any, ...], int, int, int]


class Kind(IntEnum):
    """What a value may be, by the numbers that the library knows."""

    TEXT = 0
    CHOICE = 1
    INTEGER = 2
    REAL = 3
    TRUTH = 4
    ARRAY = 5
    OBJECT = 6
    OTHER = 7


SLOTS: Final[Mapping[str, int]] = {name: slot for slot, name in enumerate(COLUMNS)}
"""Where the library keeps the values of these fields."""

NUMBERS: Final = frozenset(("amount_minor",))
"""The columns of numbers; the others are texts."""

_COUNT_MAX: Final = 1 << 31
_INTEGER_MAX: Final = (1 << 63) - 1
_KEPT: Final = {Kind.TEXT, Kind.CHOICE}


def plan_of(event_types: Mapping[str, EventType]) -> Plan:
    """All types in their order: their models, the number of slots, journey's and subject's.

    Shapes: a model is a tuple of (name, required, one of several, slot, type), None for a type
    whose bodies have to be decoded.
    """
    models = tuple(_model_of(kind) for kind in event_types.values())
    return models, len(SLOTS), SLOTS["journey_id"], SLOTS["subject"]


def _model_of(kind: EventType) -> tuple[Any, ...] | None:
    found = inspect.type_info(kind.struct)
    assert isinstance(found, inspect.StructType)
    assert issubclass(kind.model, Strict)
    one_of = kind.model.exactly_one_of
    fields = {field.name: field for field in found.fields}
    if not _is_plain(found) or any(fields[name].default is not None for name in one_of):
        return None
    return tuple(_field_of(field, one_of, SLOTS.get(field.name, -1)) for field in found.fields)


def _is_plain(found: inspect.StructType) -> bool:
    return found.tag is None and not (found.array_like or found.forbid_unknown_fields)


def _field_of(field: inspect.Field, one_of: tuple[str, ...] = (), slot: int = -1) -> Any:
    described = _type_of(field.type)
    kept = {Kind.INTEGER} if field.name in NUMBERS else _KEPT
    if slot >= 0 and described[0] not in kept:
        described = _type(Kind.OTHER, nullable=described[1])
    # A column without a value is None: where the model has another default, the decoder sets it.
    required = field.required or (slot >= 0 and field.default is not None)
    name = field.encode_name.encode("ascii")
    return name, required, field.name in one_of, slot, described


def _type(kind: Kind, *, nullable: bool = False, **told: Any) -> Any:
    """(kind, nullable, low, high, floor, ceiling, above, below, words, item, object)."""
    get = told.get
    return (
        *(int(kind), nullable, get("low", 0), get("high", 0), get("floor", 0.0)),
        *(get("ceiling", 0.0), get("above", False), get("below", False)),
        *(get("words", ()), get("item"), get("object")),
    )


def _type_of(found: inspect.Type) -> Any:
    nullable = False
    if isinstance(found, inspect.UnionType):
        left = [part for part in found.types if not isinstance(part, inspect.NoneType)]
        nullable = len(left) < len(found.types)
        if len(left) != 1:
            return _type(Kind.OTHER, nullable=nullable)
        found = left[0]
    told = _told_of(found)
    kind = told.pop("kind", Kind.OTHER)
    return _type(kind, nullable=nullable, **told)


def _told_of(found: inspect.Type) -> dict[str, Any]:
    """What the library has to know of one type; nothing for one that it does not know."""
    if isinstance(found, inspect.StrType) and found.pattern is None:
        return {"kind": Kind.TEXT, **_sizes(found.min_length, found.max_length)}
    if isinstance(found, inspect.LiteralType) and _are_words(found.values):
        return {"kind": Kind.CHOICE, "words": tuple(str(word).encode() for word in found.values)}
    if isinstance(found, inspect.IntType) and found.multiple_of is None:
        return {"kind": Kind.INTEGER, **_integers(found)}
    if isinstance(found, inspect.FloatType) and found.multiple_of is None:
        return {"kind": Kind.REAL, **_reals(found)}
    if isinstance(found, inspect.BoolType):
        return {"kind": Kind.TRUTH}
    if isinstance(found, inspect.VarTupleType):
        sizes = _sizes(found.min_length, found.max_length)
        return {"kind": Kind.ARRAY, "item": _type_of(found.item_type), **sizes}
    if isinstance(found, inspect.StructType) and _is_plain(found):
        if hasattr(found.cls, "__post_init__"):
            return {}
        return {"kind": Kind.OBJECT, "object": tuple(_field_of(part) for part in found.fields)}
    return {}


def _are_words(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, str) and value.isascii() for value in values)


def _sizes(low: int | None, high: int | None) -> dict[str, int]:
    return {"low": low or 0, "high": _COUNT_MAX if high is None else high}


def _integers(found: inspect.IntType) -> dict[str, int]:
    low = found.ge if found.gt is None else found.gt + 1
    high = found.le if found.lt is None else found.lt - 1
    return {
        "low": -_INTEGER_MAX if low is None else low,
        "high": _INTEGER_MAX if high is None else high,
    }


def _reals(found: inspect.FloatType) -> dict[str, Any]:
    low = found.ge if found.gt is None else found.gt
    high = found.le if found.lt is None else found.lt
    return {
        "floor": -float("inf") if low is None else float(low),
        "ceiling": float("inf") if high is None else float(high),
        "above": found.gt is not None,
        "below": found.lt is not None,
    }
