"""Every event type has one topic, versions without gaps, bounded fields and examples that fit."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # no stubs here

from schemas.contracts_build import build_contracts
from schemas.events import EVENT_TYPES, EventType, explain
from schemas.events.ticket_contract import TicketContract
from schemas.events_page import closed_lists
from schemas.topics_catalog import load_topics

EXAMPLES = Path(str(files("schemas"))) / "examples"
PATHS = sorted(EXAMPLES.glob("*/*.json"))
CONTRACTS = build_contracts()
KIND = pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES.keys())
EXAMPLE = pytest.mark.parametrize(
    "path", PATHS, ids=[f"{path.parent.name}/{path.stem}" for path in PATHS]
)


def read_example(path: Path) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return event


def headers_of(event: dict[str, Any]) -> dict[str, str]:
    """Write a structured event's attributes as the headers of the binary mode."""
    names = {name: f"ce_{name}" for name in event if name != "data"}
    names["datacontenttype"] = "content-type"
    return {header: event[name] for name, header in names.items()}


def faults(contract: dict[str, Any], value: Any) -> list[str]:
    return [fault.message for fault in Draft202012Validator(contract).iter_errors(value)]


def parts_of(node: Any) -> Iterator[dict[str, Any]]:
    """Give every schema node below one, itself included."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    for part in node if isinstance(node, list) else ():
        yield from parts_of(part)


@KIND
def test_event_type_is_accepted_by_exactly_one_topic_the_one_it_names(kind: EventType) -> None:
    accepting = [topic.topic for topic in load_topics().values() if topic.accepts(kind.name)]

    assert [kind.topic] == accepting


def test_versions_of_an_event_type_count_from_one_without_gaps() -> None:
    versions: dict[str, set[int]] = defaultdict(set)
    for name in EVENT_TYPES:
        base, _, version = name.rpartition(".v")
        versions[base].add(int(version))

    assert all(found == set(range(1, len(found) + 1)) for found in versions.values())


def test_stages_are_the_ones_in_the_event_types() -> None:
    strangers = [kind.name for kind in EVENT_TYPES.values() if f".{kind.stage}." not in kind.name]

    assert ["ntf.journey.created.v1"] == strangers


@KIND
def test_every_event_about_a_message_places_it(kind: EventType) -> None:
    required = set(CONTRACTS[kind.name]["required"])
    placing = {"journey_id", "notification_id", "campaign", "tenant"}

    assert (kind.stage != "profile") == (placing <= required)


def test_what_happened_for_a_reason_says_which() -> None:
    happened = ("suppressed", "rejected", "bounced", "failed", "dropped", "deferred", "refunded")
    silent = [
        name
        for name, contract in CONTRACTS.items()
        if name.split(".")[-2] in happened and "reason" not in contract["required"]
    ]

    assert [] == silent


@KIND
def test_closed_lists_have_members_and_name_each_once(kind: EventType) -> None:
    lists = dict(closed_lists(CONTRACTS[kind.name]))
    has_reason = "reason" in CONTRACTS[kind.name]["properties"]

    assert all(values and len(values) == len(set(values)) for values in lists.values())
    assert has_reason == ("reason" in lists)


@pytest.mark.parametrize("name", CONTRACTS)
def test_everything_in_a_contract_is_bounded(name: str) -> None:
    bound = {"string": "maxLength", "array": "maxItems", "integer": "maximum", "number": "maximum"}
    loose = [
        part
        for part in parts_of(CONTRACTS[name])
        if part.get("type") in bound and "enum" not in part and bound[part["type"]] not in part
    ]

    assert [] == loose


@pytest.mark.parametrize("name", CONTRACTS)
def test_patterns_mean_the_same_in_every_language(name: str) -> None:
    """Backslash classes and dots differ between Rust, Python and ECMAScript."""
    patterns = [
        part["pattern"] for part in parts_of(CONTRACTS[name]["properties"]) if "pattern" in part
    ]
    odd = [text for text in patterns if not re.fullmatch(r"\^([^.\\]|\\\.|\[[^\]\\]*\])*\$", text)]

    assert [] == odd


def test_every_event_type_has_examples_and_nothing_else_has() -> None:
    assert sorted(EVENT_TYPES) == sorted({path.parent.name for path in PATHS})
    assert all((EXAMPLES / name / "1.json").is_file() for name in EVENT_TYPES)


@EXAMPLE
def test_example_fits_its_contract_and_both_models(path: Path) -> None:
    event = read_example(path)
    kind = EVENT_TYPES[event["type"]]
    body = json.dumps(event["data"]).encode()

    assert path.parent.name == kind.name
    assert [] == faults(CONTRACTS[kind.name], event["data"])
    assert [] == explain(kind, body)
    kind.model.model_validate_json(body, strict=True)
    kind.decode(body)


@EXAMPLE
def test_example_fits_the_ticket_contract(path: Path) -> None:
    headers = headers_of(read_example(path))

    assert [] == faults(CONTRACTS["ticket.v1"], headers)
    TicketContract.model_validate(headers)


@EXAMPLE
def test_example_agrees_with_its_ticket_and_lists_only_known_fields(path: Path) -> None:
    event = read_example(path)
    data = event["data"]

    assert event.get("subject") == data.get("subject")
    assert event["correlationid"] == data.get("journey_id", event["correlationid"])
    assert set(data) <= set(CONTRACTS[event["type"]]["properties"])


def test_examples_have_ids_of_their_own() -> None:
    ids = [read_example(path)["id"] for path in PATHS]

    assert len(set(ids)) == len(ids)


def test_examples_hold_no_address_and_name_nobody() -> None:
    address = re.compile(r"[^\s\"]+@[^\s\"]+|\+[0-9]{7,}|([0-9]{1,3}\.){3}[0-9]{1,3}|https?:")
    found = [path.parent.name for path in PATHS if address.search(path.read_text(encoding="utf-8"))]
    subjects = {read_example(path).get("subject", "usr_" + "0" * 16) for path in PATHS}

    assert [] == found
    assert all(re.fullmatch(r"usr_[0-9a-f]{16}", subject) for subject in subjects)
