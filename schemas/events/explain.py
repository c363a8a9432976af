"""Say what is wrong with a refused body, where, and never what it said.

A refusal is logged, counted and stored next to data of every class, so no part of the input may
appear in it: neither values, nor the keys of open maps, nor the members of a list of choices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.events.body import EXACTLY_ONE, Strict

PROBLEMS_MAX: Final = 8

# Beyond this only the first fault is named: listing all of a hostile body takes seconds.
EXPLAINED_BYTES_MAX: Final = 16_384

# What decoding a body raises, whatever its bytes; a bomb of brackets ends in RecursionError.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Problem(NamedTuple):
    """One fault of a body: its code, an RFC 6901 pointer to it, and the kind of fault."""

    code: str
    pointer: str
    reason: str


_REASONS: Final = {
    "missing": "required field is missing",
    "string_type": "expected string",
    "int_type": "expected integer",
    "float_type": "expected number",
    "bool_type": "expected true or false",
    "tuple_type": "expected array",
    "dict_type": "expected object",
    "model_type": "expected object",
    "literal_error": "expected one of the listed values",
    "string_too_short": "expected a longer string",
    "string_too_long": "expected a shorter string",
    "string_pattern_mismatch": "expected string in the documented format",
    "too_short": "expected more entries",
    "too_long": "expected fewer entries",
    "greater_than": "expected a greater number",
    "greater_than_equal": "expected a greater number",
    "less_than": "expected a smaller number",
    "less_than_equal": "expected a smaller number",
    "finite_number": "expected a finite number",
    EXACTLY_ONE: "expected exactly one of the alternative fields",
}
_OTHER: Final = "does not fit the schema"

# msgspec quotes enum values, so only sentences from this list are passed on.
_FAST_REASONS: Final = (
    (re.compile(r"Expected `(?:str|int|float|bool|array|object)"), "expected another type"),
    (re.compile(r"Object missing required field"), "required field is missing"),
    (re.compile(r"Invalid enum value"), "expected one of the listed values"),
    (re.compile(r"(?:Number|Integer value) out of range"), "expected a number in range"),
    (re.compile(r"expected exactly one of"), "expected exactly one of the alternative fields"),
)
_FAST_PATH: Final = re.compile(r" - at (`key` in )?`\$([^`]*)`\Z")
_FAST_STEP: Final = re.compile(r"\.([a-z_]+)|\[([0-9]+)\]|(\[\.\.\.\])")


def explain_body(
    model: type[Strict], decode: Callable[[bytes], msgspec.Struct], body: bytes
) -> list[Problem]:
    """List the faults of one body, none for a body that `decode` takes.

    All wrong fields up to `PROBLEMS_MAX`, of each array its first wrong entry; of a body beyond
    `EXPLAINED_BYTES_MAX` the first fault only.

    `decode` is the judge; pydantic only finds the words, and where it finds nothing wrong
    (such as a repeated key of which only the first is wrong) the judge's own path is given.
    Errors: none, for any bytes.
    """
    fault = _unreadable(body)
    if fault:
        return [Problem("T303", "", fault)]
    try:
        decode(body)
    except DECODE_ERRORS as verdict:
        return list(_faults(model, body))[:PROBLEMS_MAX] or [_judged(str(verdict))]
    return []


def _unreadable(body: bytes) -> str:
    """Name the reason why these bytes are no JSON text, or say nothing.

    The typed decoder skips fields it does not know without looking at their encoding, so a body
    that it takes can still be no UTF-8: hence the look at the whole text.
    """
    if not body:
        return "expected a body"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "expected UTF-8"
    try:
        msgspec.json.decode(body)
    except RecursionError:
        return "expected less nesting"
    except msgspec.ValidationError:
        return ""  # JSON, with a number that no type holds: a matter of the schema
    except msgspec.DecodeError:
        return "expected JSON"
    return ""


def _faults(model: type[Strict], body: bytes) -> Iterator[Problem]:
    if len(body) > EXPLAINED_BYTES_MAX:
        return
    faults: list[ErrorDetails] = []
    try:
        model.model_validate_json(body)
    except ValidationError as found:
        faults = found.errors(include_url=False, include_context=False, include_input=False)
    around = {fault["loc"][:-1] for fault in faults}
    for fault in faults:
        kind, place = fault["type"], fault["loc"]
        # Its parser stops at 200 levels, ours later; and it counts right entries only, so that
        # an array with a wrong one is called short as well.
        if kind != "json_invalid" and not (kind == "too_short" and place in around):
            yield Problem("T302", _pointer(model, place), _REASONS.get(kind, _OTHER))


def _pointer(model: Any, place: tuple[int | str, ...]) -> str:
    """Write a place as a pointer, following the model so that map keys can be told from fields."""
    if len(place) == 1 and isinstance(place[0], str):
        return _field_pointers(model).get(place[0], "/*")
    kind, steps = model, []
    for step in place:
        if isinstance(step, int):
            steps.append(str(step))
            kind = _inside(kind)
        elif isinstance(kind, type) and issubclass(kind, Strict) and step in kind.model_fields:
            steps.append(step)
            kind = _core(kind.model_fields[step].annotation)
        else:
            steps.append("*")
            break
    return "".join(f"/{step}" for step in steps)


@cache
def _field_pointers(model: type[Strict]) -> dict[str, str]:
    """Nearly all faults are in fields of the body itself."""
    return {name: f"/{name}" for name in model.model_fields}


def _core(hint: Any) -> Any:
    """Look through `Annotated` and `| None` at the type that has fields or items."""
    if get_origin(hint) is Annotated:
        return _core(get_args(hint)[0])
    choices = [arg for arg in get_args(hint) if arg is not type(None)]
    optional = type(None) in get_args(hint)
    return _core(choices[0]) if optional and len(choices) == 1 else hint


def _inside(hint: Any) -> Any:
    args = get_args(hint)
    return _core(args[0]) if args else None


def _judged(sentence: str) -> Problem:
    """Translate the judge's own sentence, of which only the path and the kind are safe."""
    reason = next((words for form, words in _FAST_REASONS if form.match(sentence)), _OTHER)
    place = _FAST_PATH.search(sentence)
    if place is None:
        return Problem("T302", "", reason)
    steps = [name or index or "*" for name, index, _ in _FAST_STEP.findall(place[2])]
    if place[1]:
        steps.append("*")
    return Problem("T302", "".join(f"/{step}" for step in steps), reason)
