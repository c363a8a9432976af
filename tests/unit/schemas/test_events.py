"""The event types as the flows see them: structs with columns, and bodies explained."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.events import (
    COLUMNS,
    DECODE_ERRORS,
    EVENT_TYPES,
    PROBLEMS_MAX,
    EventType,
    Problem,
    explain,
)
from schemas.events.body import Strict
from schemas.events.explain import EXPLAINED_BYTES_MAX
from schemas.events.fast import anchored, derive

CREATED = EVENT_TYPES["ntf.request.created.v1"]
SENT = EVENT_TYPES["ntf.delivery.sent.v1"]
SELECTED = EVENT_TYPES["ntf.orchestration.channel_selected.v1"]
PROFILE = EVENT_TYPES["ntf.profile.updated.v1"]
PAYMENT = EVENT_TYPES["ntf.outcome.payment_received.v1"]

PLACE = {
    "journey_id": "journey-0001",
    "notification_id": "ntf-00000001",
    "campaign": "spring",
    "tenant": "harbour",
}
REQUEST = {
    **PLACE,
    "template": "spring-offer",
    "channels_allowed": ["email"],
    "priority": "low",
    "idempotency_key": "spring-0001",
    "audience": "everyone",
}
DELIVERY = {**PLACE, "channel": "email", "provider": "northmail", "message_id": "nm-1"}
MONEY = {**PLACE, "amount_minor": 499, "currency": "EUR"}
PERSON = {"subject": "usr_9f2c1b7ae04d3c58", "zone": "Europe/Vienna"}


def found(kind: EventType, body: dict[str, Any]) -> list[Problem]:
    return explain(kind, json.dumps(body).encode())


def pointers(kind: EventType, body: dict[str, Any]) -> list[str]:
    return sorted(problem.pointer for problem in found(kind, body))


def test_columns_can_be_read_on_every_struct_even_where_the_event_has_no_such_field() -> None:
    body = json.dumps({**DELIVERY, "amount_minor": 5, "subject": "usr_9f2c1b7ae04d3c58"}).encode()

    row = attrgetter(*COLUMNS)(SENT.decode(body))

    assert (
        "journey-0001",
        "ntf-00000001",
        "usr_9f2c1b7ae04d3c58",
        "spring",
        "harbour",
        "email",
        None,
        None,
        None,
        None,
    ) == row


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES.keys())
def test_every_struct_offers_all_columns_and_holds_exactly_the_fields_of_its_model(
    kind: EventType,
) -> None:
    assert all(hasattr(kind.struct, name) for name in COLUMNS)
    assert tuple(kind.model.model_fields) == kind.struct.__struct_fields__


def test_nested_models_become_nested_structs() -> None:
    body = {**PLACE, "channel": "email", "scores": [{"channel": "email", "score": 0.5}]}

    struct: Any = SELECTED.decode(json.dumps(body).encode())

    assert ("email", 0.5) == (struct.scores[0].channel, struct.scores[0].score)


def test_unknown_fields_are_ignored_so_that_producers_may_run_ahead() -> None:
    assert [] == found(SENT, {**DELIVERY, "colour": {"of": ["anything"]}})


def test_body_that_decodes_has_no_problem() -> None:
    assert [] == found(CREATED, REQUEST)


def test_all_wrong_fields_are_named_at_once() -> None:
    body = {**REQUEST, "priority": "urgent", "goal": {"metric": 1}, "channels_allowed": ["fax"]}

    expected = ["/channels_allowed/0", "/goal/metric", "/goal/window_s", "/priority"]

    assert expected == pointers(CREATED, body)


def test_at_most_eight_problems_are_named() -> None:
    nine_faults = {"goal": 1}

    assert PROBLEMS_MAX == len(found(CREATED, nine_faults))


def test_array_stops_at_its_first_wrong_entry() -> None:
    assert ["/preferred_hours/1"] == pointers(PROFILE, {**PERSON, "preferred_hours": [1, 24, 25]})


def test_too_many_faults_to_list_leave_the_first_one() -> None:
    """A hostile megabyte of wrong entries took ten seconds and 900 MB to list."""
    body = {**REQUEST, "priority": "urgent", "note": "x" * EXPLAINED_BYTES_MAX}

    assert [Problem("T302", "/priority", "expected one of the listed values")] == found(
        CREATED, {**body, "goal": {}}
    )


def test_key_of_an_open_map_is_not_shown() -> None:
    body = {**PERSON, "consent": {"Mia Example": True, "marketing": "yes"}}

    assert ["/consent/*", "/consent/*"] == pointers(PROFILE, body)


def test_key_of_an_open_map_is_not_shown_by_the_judge_either() -> None:
    body = {**PERSON, "note": "x" * EXPLAINED_BYTES_MAX}

    assert ["/consent/*"] == pointers(PROFILE, {**body, "consent": {"Mia Example": True}})
    assert ["/consent/*"] == pointers(PROFILE, {**body, "consent": {"marketing": "yes"}})


def test_key_of_an_open_map_is_not_shown_even_if_it_is_also_a_field() -> None:
    assert ["/consent/*"] == pointers(PROFILE, {**PERSON, "consent": {"subject": 1}})


@pytest.mark.parametrize(
    ("given", "count"), [({"recipient": "usr_9f2c1b7ae04d3c58"}, 1), ({"audience": None}, 1)]
)
def test_request_goes_to_a_recipient_or_to_an_audience_never_to_both_or_none(
    given: dict[str, Any], count: int
) -> None:
    problems = found(CREATED, {**REQUEST, **given})

    assert [
        Problem("T302", "", "expected exactly one of the alternative fields")
    ] * count == problems


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected a body"),
        (b" ", "expected JSON"),
        (b"\xff", "expected UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "expected UTF-8"),
        (b'{"a": "\\ud800"}', "expected JSON"),
        (b'{"a": NaN}', "expected JSON"),
        (b"{} {}", "expected JSON"),
        (b"{'a': 1}", "expected JSON"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b"[" * 1_000_000, "expected less nesting"),
        (b'{"a":' * 1_000_000, "expected less nesting"),
    ],
)
def test_bytes_that_are_no_json_text_are_told_apart(body: bytes, reason: str) -> None:
    assert [Problem("T303", "", reason)] == explain(SENT, body)


def test_bytes_of_an_unknown_field_are_looked_at_when_explained() -> None:
    """The typed decoder skips what it does not know without looking at its encoding."""
    body = json.dumps(DELIVERY).encode().replace(b"{", b'{"colour": "\xff", ', 1)

    assert SENT.decode(body) is not None
    assert [Problem("T303", "", "expected UTF-8")] == explain(SENT, body)


@pytest.mark.parametrize("digits", [25, 5_000])
def test_huge_number_is_a_matter_of_the_schema(digits: int) -> None:
    body = json.dumps({**MONEY, "amount_minor": 7}).replace("7", "9" * digits).encode()

    assert ["/amount_minor"] == [problem.pointer for problem in explain(PAYMENT, body)]


def test_repeated_key_of_which_one_is_wrong_is_refused_with_the_path_of_the_judge() -> None:
    body = json.dumps(MONEY).encode().replace(b"{", b'{"amount_minor": "4", ', 1)

    assert [Problem("T302", "/amount_minor", "expected another type")] == explain(PAYMENT, body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"text"'])
def test_body_that_is_no_object_is_refused_as_a_whole(body: bytes) -> None:
    assert [Problem("T302", "", "expected object")] == explain(SENT, body)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 1_000_000, b"{}", b'{"a": 1e999'])
def test_decoding_raises_nothing_but_the_named_errors(body: bytes) -> None:
    with pytest.raises(DECODE_ERRORS):
        SENT.decode(body)


def test_pattern_refuses_a_final_line_feed_in_both_engines() -> None:
    body = {**PERSON, "zone": "Europe/Vienna\n"}

    assert ["/zone"] == pointers(PROFILE, body)
    with pytest.raises(DECODE_ERRORS):
        PROFILE.decode(json.dumps(body).encode())


def test_pattern_without_anchors_is_refused_when_structs_are_derived() -> None:
    with pytest.raises(ConfigError, match="around it"):
        anchored("[a-z]+")


def test_field_type_without_a_translation_is_refused_when_structs_are_derived() -> None:
    class Odd(Strict):
        when: complex

    with pytest.raises(ConfigError, match="complex"):
        derive(Odd)
