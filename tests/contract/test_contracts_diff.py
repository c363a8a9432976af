"""Every kind of breaking change is caught, and changes that break nobody pass."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from schemas.contracts_build import build_contracts
from schemas.contracts_diff import breaking_changes

TEXT = {"type": "string", "minLength": 2, "maxLength": 9}
NULL = {"type": "null"}


def contract(*, required: tuple[str, ...] = ("name",), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


OLD = contract(
    name=TEXT,
    code={"type": "string", "pattern": "^[a-z]$"},
    size={"type": "integer", "minimum": 1, "maximum": 9},
    share={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    kind={"type": "string", "enum": ["a", "b"]},
    note={"anyOf": [{**TEXT}, NULL], "default": None},
    tags={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
    votes={"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 4},
    goal={"$ref": "#/$defs/Goal"},
)
OLD["$defs"] = {"Goal": contract(required=("metric",), metric={"type": "string"})}

BREAKS: dict[str, tuple[str, Any, list[str]]] = {
    "longer at least": ("/name/minLength", 3, ["/name: minLength tightened to 3"]),
    "shorter at most": ("/name/maxLength", 8, ["/name: maxLength tightened to 8"]),
    "pattern edited": ("/code/pattern", "^[b]$", ["/code: pattern changed"]),
    "pattern added": ("/name/pattern", "^[b]$", ["/name: pattern changed"]),
    "greater at least": ("/size/minimum", 2, ["/size: minimum tightened to 2"]),
    "smaller at most": ("/size/maximum", 8, ["/size: maximum tightened to 8"]),
    "open floor": ("/share/exclusiveMinimum", 0.1, ["/share: exclusiveMinimum tightened to 0.1"]),
    "open roof": ("/share/exclusiveMaximum", 0.9, ["/share: exclusiveMaximum tightened to 0.9"]),
    "bound added": ("/code/maxLength", 5, ["/code: maxLength tightened to 5"]),
    "choice removed": ("/kind/enum", ["a"], ["/kind: b removed from the closed list"]),
    "choice replaced": ("/kind/enum", ["a", "c"], ["/kind: b removed from the closed list"]),
    "list closed": ("/name/enum", ["ab"], ["/name: closed list added"]),
    "constant": (
        "/kind",
        {"const": "a", "type": "string"},
        ["/kind: b removed from the closed list"],
    ),
    "type replaced": (
        "/size/type",
        "string",
        ["/size: type narrowed, integer is no longer taken", "/size: type widened to string"],
    ),
    "type narrowed": (
        "/share/type",
        "integer",
        ["/share: type narrowed, number is no longer taken"],
    ),
    "type widened": ("/size/type", "number", ["/size: type widened to number"]),
    "may be null now": ("/name", {"anyOf": [TEXT, NULL]}, ["/name: type widened to null"]),
    "may not be null now": (
        "/note",
        {**TEXT, "default": None},
        ["/note: type narrowed, null is no longer taken"],
    ),
    "inside a choice": (
        "/note",
        {"anyOf": [{**TEXT, "maxLength": 4}, NULL], "default": None},
        ["/note: maxLength tightened to 4"],
    ),
    "default changed": ("/note/default", "ab", ["/note: default changed"]),
    "fewer entries": ("/tags/maxItems", 2, ["/tags: maxItems tightened to 2"]),
    "more entries": ("/tags/minItems", 2, ["/tags: minItems tightened to 2"]),
    "entry narrowed": ("/tags/items/maxLength", 4, ["/tags/items: maxLength tightened to 4"]),
    "entries unique": ("/tags/uniqueItems", True, ["/tags: uniqueItems changed"]),
    "fewer keys": ("/votes/maxProperties", 3, ["/votes: maxProperties tightened to 3"]),
    "map value": (
        "/votes/additionalProperties/type",
        "string",
        [
            "/votes/additionalProperties: type narrowed, boolean is no longer taken",
            "/votes/additionalProperties: type widened to string",
        ],
    ),
    "map closed": (
        "/votes/additionalProperties",
        False,
        [
            "/votes/additionalProperties: closed list added",
        ],
    ),
    "keys bounded": (
        "/votes/propertyNames",
        {"maxLength": 4},
        ["/votes/propertyNames: maxLength tightened to 4"],
    ),
    "rule added": ("/name/not", {"const": "ab"}, ["/name: not changed"]),
}


def changed(place: str, value: Any) -> dict[str, Any]:
    new = deepcopy(OLD)
    *steps, last = place.split("/")[1:]
    node = new["properties"]
    for step in steps:
        node = node[step]
    node[last] = value
    return new


@pytest.mark.parametrize("kind", BREAKS)
def test_breaking_change_is_caught(kind: str) -> None:
    place, value, expected = BREAKS[kind]

    assert expected == breaking_changes(OLD, changed(place, value))


def test_removed_property_breaks() -> None:
    new = deepcopy(OLD)
    del new["properties"]["note"]

    assert ["/note: property removed"] == breaking_changes(OLD, new)


def test_newly_required_property_breaks() -> None:
    new = {**OLD, "required": ["name", "code"]}

    assert [": code is newly required"] == breaking_changes(OLD, new)


def test_property_that_readers_rely_on_may_not_become_optional() -> None:
    new = {**OLD, "required": []}

    assert [": name is no longer required"] == breaking_changes(OLD, new)


def test_change_in_a_shared_part_breaks_where_the_part_is_used() -> None:
    new = deepcopy(OLD)
    new["$defs"]["Goal"]["properties"] = {"metric": {"type": "string", "maxLength": 4}}

    assert ["/goal/metric: maxLength tightened to 4"] == breaking_changes(OLD, new)


def test_added_or_removed_rule_of_the_whole_breaks() -> None:
    ruled = {**OLD, "oneOf": [{"required": ["code"]}, {"required": ["kind"]}]}

    assert [": oneOf changed"] == breaking_changes(OLD, ruled)
    assert [": oneOf changed"] == breaking_changes(ruled, OLD)


def test_closed_object_breaks_producers_that_run_ahead() -> None:
    new = {**OLD, "additionalProperties": False}

    assert ["/additionalProperties: closed list added"] == breaking_changes(OLD, new)


def test_contract_that_holds_itself_ends_in_a_finding_not_in_a_crash() -> None:
    loop = {"$ref": "#/$defs/Part", "$defs": {"Part": contract(part={"$ref": "#/$defs/Part"})}}

    (found,) = breaking_changes(loop, loop)

    assert found.endswith("nested too deep to compare")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("/colour", {"type": "string"}),
        ("/kind/enum", ["a", "b", "c"]),
        ("/name/minLength", 1),
        ("/name/maxLength", 10),
        ("/size/minimum", 0),
        ("/size/maximum", 10),
        ("/share/exclusiveMinimum", -1),
        ("/tags/maxItems", 4),
        ("/tags/minItems", 0),
        ("/votes/maxProperties", 5),
        ("/code", {"type": "string"}),
        ("/name", {"type": "string"}),
        ("/kind", {"type": "string"}),
        ("/name/description", "A name."),
        ("/name/title", "Name"),
        ("/name/examples", ["ab"]),
    ],
)
def test_change_that_breaks_nobody_passes(place: str, value: Any) -> None:
    assert [] == breaking_changes(OLD, changed(place, value))


def test_moving_a_part_into_the_definitions_breaks_nobody() -> None:
    new = changed("/name", {"$ref": "#/$defs/Name"})
    new["$defs"]["Name"] = TEXT

    assert [] == breaking_changes(OLD, new)


@pytest.mark.parametrize("name", build_contracts())
def test_contract_does_not_break_itself(name: str) -> None:
    contract_now = build_contracts()[name]

    assert [] == breaking_changes(contract_now, deepcopy(contract_now))
