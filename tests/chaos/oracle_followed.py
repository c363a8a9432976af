"""The oracle of what follows behind the gate: decisions, outcomes, findings, models, journeys.

As the oracle of the gate it reads topics and tables by their documentation, and shares no code
with what it judges. Sentences name topics, places and fields, and never a value of a message.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from tests.chaos.oracle import (
    Findings,
    Headers,
    Place,
    Told,
    carries_canary,
    checksum,
    text,
)

DECISIONS: Final = "ntf.decisions.v1"
OUTCOMES: Final = "ntf.outcomes.v1"
MODEL: Final = "airside.model.v1"
ONCE_TOPICS: Final = (
    OUTCOMES,
    "ntf.exceptions.v1",
    "ntf.quality.v1",
    "airside.experiments.v1",
    MODEL,
)
"""Each record once, as routed ones."""

FOLLOWED_TOPICS: Final = (DECISIONS, *ONCE_TOPICS)
FOLLOWED_TABLES: Final = (
    "journeys",
    "outcomes",
    "process_exceptions",
    "quality",
    "anomalies",
    "lineage_edges",
    "decisions",
    "decision_outcomes",
    "rhythm_clusters",
)
ASKING: Final = ("ntf.request.created.v1", "ntf.journey.created.v1")
BY_MACHINE: Final = ("ntf.engagement.opened.v1", "ntf.engagement.clicked.v1")

JOURNEYS_SQL: Final = """SELECT journey, n, toUnixTimestamp64Milli(started_at),
toUnixTimestamp64Milli(last_at), acts, arrayMap(one -> toUnixTimestamp64Milli(one), at)
FROM journeys FINAL"""
DECISIONS_SQL: Final = "SELECT decision_id, journey FROM decisions FINAL"


class Word(NamedTuple):
    """One record that followed. Shapes: `origin` whole, with its ordinal; `check` of everything."""

    topic: str
    id: str
    origin: str
    journey: str
    check: int
    value: bytes
    leaks: bool


class FollowedEvidence(NamedTuple):
    """What was read of it.

    Shapes: `acts` the act of each routed event of a journey; `journeys` rows of (journey, n, first
    time, last time, acts, times); `decisions` rows of (id, journey).
    """

    told: Mapping[Place, Told]
    acts: Mapping[Place, str]
    words: Sequence[Word]
    journeys: Sequence[tuple[Any, ...]]
    decisions: Sequence[tuple[str, str]]


def word_of(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Word:
    """What the oracle needs of a record; whatever differs in it, differs in its checksum."""
    named = {name: (content or b"").decode("utf-8", "replace") for name, content in headers}
    whole = repr((sorted(headers), key)).encode()
    return Word(
        topic=topic,
        id=named.get("ce_id", ""),
        origin=named.get("airside-origin", ""),
        journey=named.get("ce_correlationid", ""),
        check=checksum(whole, value),
        value=value or b"",
        leaks=carries_canary(key, value, headers),
    )


def act_of(event_type: str, *, machine: bool) -> str:
    """An event type as journeys tell it.

    >>> act_of("ntf.engagement.opened.v1", machine=True)
    'engagement.opened_by_machine'
    """
    act = event_type.removeprefix("ntf.").removesuffix(".v1")
    return f"{act}_by_machine" if machine and event_type in BY_MACHINE else act


def judge_followed(evidence: FollowedEvidence, found: Findings) -> None:
    """Check everything behind the gate."""
    check_decisions(evidence, found)
    check_once(evidence, found)
    check_models(evidence.words, found)
    check_journeys(evidence, found)
    for word in evidence.words:
        if word.leaks:
            found.add("leaked", word.origin, f"a planted value in {word.topic}")


def origin_place(word: Word) -> Place | None:
    """The place that a record follows from."""
    parts = word.origin.rsplit("/", 3)
    if len(parts) == 4 and parts[1].isdecimal() and parts[2].isdecimal():
        return (parts[0], int(parts[1]), int(parts[2]))
    return None


def check_decisions(evidence: FollowedEvidence, found: Findings) -> None:
    """A decision may be told again, and then says the same; a journey has one, and so its row."""
    said: dict[str, Word] = {}
    by_journey: dict[str, str] = {}
    for word in evidence.words:
        if word.topic != DECISIONS:
            continue
        first = said.setdefault(word.id, word)
        if first.check != word.check:
            found.add("redecided", word.origin, "another content under the same id")
        if by_journey.setdefault(word.journey, word.id) != word.id:
            found.add("redecided", word.origin, "a further decision of its journey")
        place = origin_place(word)
        request = evidence.told.get(place) if place else None
        if request is None or request.event_type not in ASKING:
            found.add("unknown", DECISIONS, f"{word.origin} asks for nothing")
    rows = Counter(evidence.decisions)
    told = Counter((word.id, word.journey) for word in said.values())
    for kind, left in (("no row", told - rows), ("a row too many", rows - told)):
        if left:
            found.add("wrong_decisions", "decisions", kind, left.total())


def check_once(evidence: FollowedEvidence, found: Findings) -> None:
    """What is published exactly once has each origin once, and each id; origins are routed."""
    for topic in ONCE_TOPICS:
        seen: set[tuple[str, str]] = set()
        for word in evidence.words:
            if word.topic != topic:
                continue
            for key in (("origin", word.origin), ("id", word.id)):
                if key in seen and key[1]:
                    found.add("doubled", word.origin, f"once more by its {key[0]} in {topic}")
                    break
            seen |= {("origin", word.origin), ("id", word.id)}
            if origin_place(word) is None:
                found.add("unknown", topic, "no origin")


def check_models(words: Iterable[Word], found: Findings) -> None:
    """The sums of a lane come one after the other, none left out."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for word in words:
        if word.topic == MODEL:
            shard = msgspec.msgpack.decode(word.value)
            numbers[shard["lane"]].append(shard["number"])
    for lane, some in sorted(numbers.items()):
        if some != [*range(1, len(some) + 1)]:
            found.add("wrong_models", f"lane {lane}", "its sums are not numbered one by one")


def check_journeys(evidence: FollowedEvidence, found: Findings) -> None:
    """Each journey of a person has one row: all of its events, by time."""
    wanted: dict[str, list[tuple[int, str]]] = defaultdict(list)
    first: dict[str, Place] = {}
    for place, told in evidence.told.items():
        if told.subject and not told.event_type.startswith("ntf.profile."):
            wanted[told.journey].append((told.event_ms, evidence.acts[place]))
            first.setdefault(told.journey, place)
    for journey, n, started_ms, last_ms, acts, times in evidence.journeys:
        events = sorted(wanted.pop(journey, ()))
        if not events:
            found.add("wrong_journeys", "journeys", "a row too many")
            continue
        right = {
            "n": n == len(events),
            "started_at": started_ms == events[0][0],
            "last_at": last_ms == events[-1][0],
            "acts": sorted(zip(times, acts, strict=True)) == events,
            "order": list(times) == sorted(times),
        }
        wrong = [name for name, is_right in right.items() if not is_right]
        if wrong:
            found.add("wrong_journeys", text(first[journey]), f"{', '.join(wrong)} differs")
    for journey in wanted:
        found.add("wrong_journeys", text(first[journey]), "no row")
