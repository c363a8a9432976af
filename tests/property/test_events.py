"""The two models of an event type say the same, and explaining never fails and never tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # no stubs here
from pydantic import ValidationError

from schemas.contracts_build import build_contract
from schemas.events import DECODE_ERRORS, EVENT_TYPES, PROBLEMS_MAX, EventType, explain

CANARY = "canary-7f3a9"
KINDS = st.sampled_from(sorted(EVENT_TYPES.values(), key=lambda kind: kind.name))
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=140),
    st.sampled_from(["", "x" * 64, "x" * 65, "x" * 7, "EUR\n", "email", "2026-07-04T08:00:00Z\n"]),
)
JUNK = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def strategy_of(node: dict[str, Any], parts: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw what one node of a contract takes."""
    if "$ref" in node:
        return strategy_of(parts[node["$ref"].removeprefix("#/$defs/")], parts)
    if "anyOf" in node:
        return st.one_of([strategy_of(choice, parts) for choice in node["anyOf"]])
    if "enum" in node:
        return st.sampled_from(node["enum"])
    return _BY_TYPE[node["type"]](node, parts)


def _strings(node: dict[str, Any], _: dict[str, Any]) -> st.SearchStrategy[Any]:
    longest = node["maxLength"]
    if "pattern" in node:
        drawn = st.from_regex(node["pattern"].removesuffix("$") + r"\Z", fullmatch=False)
        return drawn.filter(lambda text: len(text) <= longest)
    return st.text(min_size=node.get("minLength", 0), max_size=longest)


def _numbers(node: dict[str, Any], _: dict[str, Any]) -> st.SearchStrategy[Any]:
    least = node.get("minimum", node.get("exclusiveMinimum"))
    open_below = "exclusiveMinimum" in node
    return st.floats(least, node["maximum"], exclude_min=open_below) | st.just(1)


def _objects(node: dict[str, Any], parts: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "patternProperties" in node:
        ((pattern, part),) = node["patternProperties"].items()
        keys = _strings({"pattern": pattern, **node["propertyNames"]}, parts)
        return st.dictionaries(keys, strategy_of(part, parts), max_size=node["maxProperties"])
    required = set(node["required"])
    fields = {name: strategy_of(part, parts) for name, part in node["properties"].items()}
    return st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required},
    )


_BY_TYPE: dict[str, Callable[[dict[str, Any], dict[str, Any]], st.SearchStrategy[Any]]] = {
    "string": _strings,
    "null": lambda _node, _parts: st.none(),
    "boolean": lambda _node, _parts: st.booleans(),
    "integer": lambda node, _: st.integers(node["minimum"], node["maximum"]),
    "number": _numbers,
    "array": lambda node, parts: st.lists(
        strategy_of(node["items"], parts),
        min_size=node.get("minItems", 0),
        max_size=node["maxItems"],
    ),
    "object": _objects,
}


@cache
def bodies(kind: EventType) -> st.SearchStrategy[dict[str, Any]]:
    contract = build_contract(kind.name, kind.model)
    drawn = strategy_of(contract, contract.get("$defs", {}))
    if "oneOf" not in contract:
        return drawn
    names = [rule["required"][0] for rule in contract["oneOf"]]
    one = st.tuples(drawn, st.sampled_from(names), st.text(min_size=8, max_size=64))
    return one.map(lambda part: {**part[0], **dict.fromkeys(names), part[1]: part[2]})


def nodes_of(body: Any) -> list[tuple[Any, Any]]:
    """List all places in a body as (container, key), so that one can be changed."""
    keys: Any = body if isinstance(body, dict) else range(len(body)) if _is_list(body) else ()
    return [place for key in keys for place in ((body, key), *nodes_of(body[key]))]


def _is_list(node: Any) -> bool:
    return isinstance(node, list)


def change(draw: st.DrawFn, body: dict[str, Any], replacements: st.SearchStrategy[Any]) -> None:
    """Replace, remove or add at one place of a body."""
    new = deepcopy(draw(replacements))  # a drawn object is shared and would come to hold itself
    places = nodes_of(body)
    what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
    if what == "add" or not places:
        body[draw(st.sampled_from(["colour", "reason", "arm", "audience"]))] = new
        return
    container, key = draw(st.sampled_from(places))
    if what == "remove":
        del container[key]
    else:
        container[key] = new


@st.composite
def changed_bodies(
    draw: st.DrawFn, replacements: st.SearchStrategy[Any] = JUNK
) -> tuple[EventType, dict[str, Any]]:
    kind = draw(KINDS)
    body = json.loads(json.dumps(draw(bodies(kind))))
    for _ in range(draw(st.integers(1, 3))):
        change(draw, body, replacements)
    return kind, body


def is_accepted(kind: EventType, body: bytes) -> bool:
    try:
        kind.decode(body)
    except DECODE_ERRORS:
        return False
    return True


def fits_model(kind: EventType, body: bytes) -> bool:
    try:
        kind.model.model_validate_json(body, strict=True)
    except ValidationError:
        return False
    return True


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_right_body_is_taken_by_both_models_with_equal_content(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    body = json.dumps(data.draw(bodies(kind))).encode()

    fast = msgspec.json.encode(kind.decode(body))
    slow = kind.model.model_validate_json(body, strict=True).model_dump_json()

    assert json.loads(slow) == json.loads(fast)
    assert [] == explain(kind, body)


@given(changed=changed_bodies(), ascii_only=st.booleans())
@settings(max_examples=600, deadline=None)
def test_both_models_give_the_same_verdict_on_changed_bodies(
    *, changed: tuple[EventType, dict[str, Any]], ascii_only: bool
) -> None:
    kind, content = changed
    body = json.dumps(content, ensure_ascii=ascii_only).encode()

    assert fits_model(kind, body) == is_accepted(kind, body)


@cache
def validator_of(kind: EventType) -> Draft202012Validator:
    return Draft202012Validator(build_contract(kind.name, kind.model))


def _reads_alike(node: Any) -> bool:
    """Leave out what JSON Schema in Python sees otherwise: 2.0 as integer, `$` before `\\n`."""
    if isinstance(node, dict):
        return all(_reads_alike(part) for item in node.items() for part in item)
    if isinstance(node, list):
        return all(map(_reads_alike, node))
    if isinstance(node, float):
        return not node.is_integer()
    return not (isinstance(node, str) and node.endswith("\n"))


@given(changed_bodies())
@settings(max_examples=250, deadline=None)
def test_published_contract_gives_the_same_verdict_on_changed_bodies(
    changed: tuple[EventType, dict[str, Any]],
) -> None:
    kind, content = changed
    assume(_reads_alike(content))

    assert validator_of(kind).is_valid(content) == is_accepted(kind, json.dumps(content).encode())


DIFFERENCES = {
    "a repeated key, only the last counts for pydantic": (b'"channel": 1, "channel": "email"', 0),
    "unknown field: its encoding is not looked at by msgspec": (b'"colour": "\xff"', 1),
    "unknown field: pydantic's parser stops at 200 levels": (
        b'"colour": ' + b"[" * 300 + b"]" * 300,
        1,
    ),
    "unknown field: pydantic's parser stops at 4,300 digits": (b'"colour": ' + b"9" * 5_000, 1),
    "unknown field: pydantic's parser takes NaN, which is no JSON": (b'"colour": NaN', 0),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_verdicts_differ_only_where_it_is_known(name: str) -> None:
    """All are about text that no JSON library writes; msgspec's verdict is the one that counts."""
    given_part, accepted = DIFFERENCES[name]
    kind = EVENT_TYPES["ntf.delivery.queued.v1"]
    body = (
        b'{"journey_id": "journey-0001", "notification_id": "ntf-00000001", "campaign": "c",'
        b'"tenant": "t", "provider": "p", "channel": "email", ' + given_part + b"}"
    )

    assert bool(accepted) is is_accepted(kind, body)
    assert bool(accepted) is not fits_model(kind, body)


@given(KINDS, st.binary(max_size=400))
@example(EVENT_TYPES["ntf.delivery.sent.v1"], b"[" * 1_000_000)
@example(EVENT_TYPES["ntf.delivery.sent.v1"], b'{"journey_id":' * 200_000)
@example(EVENT_TYPES["ntf.delivery.sent.v1"], b'{"journey_id":' + b"9" * 100_000 + b"}")
@example(EVENT_TYPES["ntf.delivery.sent.v1"], b'{"attempt": 1e999999999}')
@example(EVENT_TYPES["ntf.delivery.sent.v1"], b'{"attempt": NaN}')
@example(EVENT_TYPES["ntf.delivery.sent.v1"], b'{"\\ud800": "\\udc00"}')
@settings(max_examples=400, deadline=None)
def test_explaining_never_fails_whatever_the_bytes(kind: EventType, body: bytes) -> None:
    problems = explain(kind, body)

    assert bool(problems) or is_accepted(kind, body)
    assert len(problems) <= PROBLEMS_MAX


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_explaining_never_fails_on_right_bodies_with_broken_bytes(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    body = bytearray(json.dumps(data.draw(bodies(kind))).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    problems = explain(kind, bytes(body))

    assert bool(problems) or is_accepted(kind, bytes(body))


@given(
    changed=changed_bodies(
        st.sampled_from(
            [
                CANARY,
                [CANARY],
                {CANARY: True},
                {CANARY: {CANARY: CANARY}},
                [{"channel": CANARY, CANARY: 1}],
                CANARY * 40,
            ]
        )
    ),
    pad=st.booleans(),
)
@settings(max_examples=600, deadline=None)
def test_no_problem_tells_anything_of_the_body(
    *, changed: tuple[EventType, dict[str, Any]], pad: bool
) -> None:
    """Padded bodies are explained by msgspec's own sentences, the others by pydantic's."""
    kind, content = changed
    padding = {"padding": "x" * 20_000} if pad else {}
    body = json.dumps({CANARY: CANARY, **content, **padding}).encode()

    assert CANARY not in repr(explain(kind, body))
