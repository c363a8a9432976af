"""Compare journeys and outcomes with the simulator's truth: each row, and each record of learners.

Sentences name fields and kinds, never a value of a message.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from flows.simulate.copies import Copy
from flows.simulate.expected import (
    OBSERVED_ACTS,
    Expected,
    Happening,
    OutcomeLine,
    expect,
    expect_outcomes,
    outcome_told,
    row_told,
)
from flows.simulate.truth import Place, Truth
from schemas.observed import OUTCOMES_TOPIC

_JOURNEY_COLUMNS: Final = (
    "journey",
    *(name for name in Expected.__struct_fields__ if name not in ("classes", "told")),
    "class",
    "acts",
    "at",
)
JOURNEYS_SQL: Final = """SELECT journey, subject, notification, campaign, tenant, channel, arm,
purpose, sensitivity, stage, state, toUnixTimestamp64Milli(started_at),
toUnixTimestamp64Milli(last_at), n, hops, propensity, amount_minor, refunded_minor, currency,
opened_human, opened_machine, clicked, converted, class, acts,
arrayMap(one -> toUnixTimestamp64Milli(one), at) FROM journeys FINAL"""
OUTCOMES_SQL: Final = """SELECT kind, toUnixTimestamp64Milli(at), journey, campaign, amount_minor,
currency, model, to_journey, to_campaign, weight, touches FROM outcomes FINAL"""
_OUTCOME_COLUMNS: Final = (
    "kind",
    "at",
    "journey",
    "campaign",
    "amount_minor",
    "currency",
    "model",
    "to_journey",
    "to_campaign",
    "weight",
    "touches",
)

Say = Callable[[str, str], None]
"""Takes where something is wrong, and what."""

Read = Callable[[str], Iterator[tuple[Any, ...]]]
"""Gives the rows of a query."""


def check_journeys(truth: Truth, read: Read, say: Say) -> int:
    """Every journey has one row, with every field as it has to be; gives how many there are."""
    wanted = {journey: expect(found) for journey, found in truth.journeys.items()}
    seen: Counter[str] = Counter()
    for values in read(JOURNEYS_SQL):
        row = dict(zip(_JOURNEY_COLUMNS, values, strict=True))
        journey = row["journey"]
        seen[journey] += 1
        right = wanted.get(journey)
        if right is None or seen[journey] > 1:
            say("journeys", "found a row too many")
        elif right != (told := row_told(row)):
            say("journeys", f"{', '.join(_differing(right, told))} differ")
    for _ in wanted.keys() - seen.keys():
        say("journeys", "no row; expected one")
    return seen.total()


def _differing(right: Expected, told: Expected) -> list[str]:
    names = Expected.__struct_fields__
    pairs = zip(msgspec.structs.astuple(right), msgspec.structs.astuple(told), strict=True)
    return [name for name, (one, other) in zip(names, pairs, strict=True) if one != other]


def check_outcomes(truth: Truth, read: Read, say: Say, *, window_ms: int) -> int:
    """Every outcome is put down to what it has to be; gives how many there are."""
    people: dict[str, list[Happening]] = defaultdict(list)
    for found in truth.journeys.values():
        for happening in found:
            people[happening.subject].append(happening)
    wanted: Counter[OutcomeLine] = Counter()
    for happenings in people.values():
        wanted.update(expect_outcomes(happenings, window_ms))
    told = Counter(
        outcome_told(dict(zip(_OUTCOME_COLUMNS, values, strict=True)))
        for values in read(OUTCOMES_SQL)
    )
    for line in ((wanted - told) + (told - wanted)).elements():
        say(f"outcomes of kind {line[0]}, {line[6]}", "a row is missing or too many")
    return told.total()


def observed_places(truth: Truth, topics: Iterable[str]) -> set[Place]:
    """The places of the events that learners have to be told of.

    `topics` are those routed topics whose classes the topic of outcomes may carry.
    """
    found = set()
    for place, fact in truth.facts.items():
        act = fact.event_type[len("ntf.") : -len(".v1")]
        if fact.subject and act in OBSERVED_ACTS and truth.fates[place].routed in topics:
            found.add(place)
    return found


def check_records(wanted: set[Place], copies: Iterable[Copy], say: Say) -> int:
    """Every outcome was published; gives how many records there were beyond one each.

    Time-outs stand apart: the world is too short for any.
    """
    seen = Counter(copy.place for copy in copies if copy.topic == OUTCOMES_TOPIC)
    for _ in wanted - seen.keys():
        say(OUTCOMES_TOPIC, "no record of an outcome; expected one")
    for _ in seen.keys() - wanted:
        say(OUTCOMES_TOPIC, "found a record of what is no outcome")
    return seen.total() - len(seen)
