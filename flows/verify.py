"""Compare everything that came out with the simulator's truth, to the message.

Sentences about mismatches name places, fields, doors and codes, and never a value of a message.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from flows.settings import JourneySettings
from flows.simulate.copies import Copy, read_copies
from flows.simulate.truth import Cell, CellKey, Fact, Fate, Place, Truth
from flows.verify_journeys import (
    check_journeys,
    check_outcomes,
    check_records,
    observed_places,
)
from schemas.codes import CODES, Door
from schemas.observed import OUTCOMES_TOPIC

SENTENCES_MAX: Final = 20
"""Mismatches that are told in words; all are counted."""

QUARANTINE_TOPIC: Final = "ntf.quarantine.v1"
LATE_TOPIC: Final = "ntf.late.v1"
ROUTED_TOPICS: Final = (
    "ntf.routed.open.v1",
    "ntf.routed.restricted.v1",
    "ntf.routed.pci.v1",
)
OUT_TOPICS: Final = (*ROUTED_TOPICS, QUARANTINE_TOPIC, LATE_TOPIC)

FATES_SQL: Final = "SELECT topic, part, run, door, code, sum(n) FROM fates FINAL GROUP BY ALL"
REFUSED_SQL: Final = "SELECT topic, part, off, door, code, event_id FROM quarantine FINAL"
FACTS_SQL: Final = """SELECT event_id, event_type, source, toUnixTimestamp64Milli(event_time),
toUnixTimestamp64Milli(recorded_at), purpose, class, sensitivity, category, subject, journey,
notification, cause, trace_id, campaign, tenant, channel, arm, reason, amount_minor, currency, zone,
local_hour, warnings, topic, part, off FROM facts FINAL"""
CELLS_SQL: Final = """SELECT intDiv(toUnixTimestamp(w), 60), event_type, campaign, channel, class,
currency, arm, n, amount_minor, latency_hist FROM rollup_1m"""
TOTAL_SQL: Final = "SELECT sum(n) FROM fates FINAL"

_RUN: Final = 10_000
_NAMES: Final = Fact.__struct_fields__
_FIELDS: Final = len(_NAMES)


class Tables(Protocol):
    """What is needed of a ClickHouse client: a query whose result comes as Arrow."""

    def query_arrow(self, query: str, *, use_strings: bool) -> Any:
        """Run a query; the result is a `pyarrow.Table`."""


class Report(msgspec.Struct, frozen=True):
    """What was found.

    Shapes: `doors` and `codes` are the counts that the books hold; `republished` counts further
    copies of records in their right topic, which at-least-once delivery allows; `sentences` are
    the first mismatches.
    """

    produced: int
    doors: dict[str, int]
    codes: dict[str, int]
    facts: int
    rollup_total: int
    republished: int
    mismatches: int
    sentences: tuple[str, ...]
    journeys: int = 0
    outcomes: int = 0

    @staticmethod
    def door_of(code: str) -> str:
        """The door that a code leads to; the empty code is that of routed messages."""
        return CODES[code].door.value if code else Door.ROUTED.value


class _Findings:
    """Counts mismatches and keeps the first in words."""

    def __init__(self) -> None:
        self.count = 0
        self.sentences: list[str] = []

    def add(self, where: str, what: str, count: int = 1) -> None:
        self.count += count
        if len(self.sentences) < SENTENCES_MAX:
            self.sentences.append(f"{where}: {what}")


def verify(
    truth: Truth,
    client: Tables,
    *,
    bootstrap_servers: str = "",
    copies: Iterable[Copy] | None = None,
    extra: Mapping[str, str] | None = None,
    journeys: JourneySettings | None = None,
) -> Report:
    """Compare tables and topics with the truth; journeys and outcomes where settings are given.

    `copies` are the records of the output topics; when not given they are read from Kafka.
    Errors: what the clients raise; a mismatch is no error, it is counted.
    """
    found = _Findings()
    doors, codes = _check_books(truth, client, found)
    _check_refused(truth, client, found)
    facts = _check_facts(truth, client, found)
    rollup_total = _check_cells(truth, client, found)
    if rollup_total != facts:
        found.add("rollup_1m", f"found {rollup_total} events in all; expected the {facts} facts")
    if copies is None:
        expected = sum(1 for fate in truth.fates.values() if _topic_of(fate))
        copies = read_copies(
            bootstrap_servers, topics=OUT_TOPICS, expected=expected, extra=extra or {}
        )
    republished = _check_copies(truth, copies, found)
    counts = (0, 0)
    if journeys is not None:
        counts = _check_journeys(truth, client, found, journeys)
        wanted = observed_places(truth, ROUTED_TOPICS[:2])
        told = read_copies(
            bootstrap_servers, topics=[OUTCOMES_TOPIC], expected=len(wanted), extra=extra or {}
        )
        republished += check_records(wanted, told, found.add)
    return Report(
        produced=truth.total,
        doors=doors,
        codes=codes,
        facts=facts,
        rollup_total=rollup_total,
        republished=republished,
        journeys=counts[0],
        outcomes=counts[1],
        mismatches=found.count,
        sentences=tuple(found.sentences),
    )


def _check_journeys(
    truth: Truth, client: Tables, found: _Findings, settings: JourneySettings
) -> tuple[int, int]:
    read = partial(_rows, client)
    window_ms = int(settings.window_s * 1_000)
    return (
        check_journeys(truth, read, found.add),
        check_outcomes(truth, read, found.add, window_ms=window_ms),
    )


def _rows(client: Tables, sql: str) -> Iterator[tuple[Any, ...]]:
    table = client.query_arrow(sql, use_strings=True)
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _text(place: Place) -> str:
    return "/".join(map(str, place))


def _topic_of(fate: Fate) -> str:
    """The topic that a message's copy has to be in; empty for a dropped one."""
    if fate.door is Door.ROUTED:
        return fate.routed
    return {Door.QUARANTINED: QUARANTINE_TOPIC, Door.LATE: LATE_TOPIC}.get(fate.door, "")


def _check_books(
    truth: Truth, client: Tables, found: _Findings
) -> tuple[dict[str, int], dict[str, int]]:
    """Conservation: each run of offsets has exactly the doors and codes that it has to have."""
    wanted = Counter(
        (topic, part, offset // _RUN, fate.door.value, fate.code)
        for (topic, part, offset), fate in truth.fates.items()
    )
    doors: Counter[str] = Counter({door.value: 0 for door in Door})
    codes: Counter[str] = Counter()
    booked: Counter[tuple[str, int, int, str, str]] = Counter()
    for topic, part, run, door, code, count in _rows(client, FATES_SQL):
        booked[topic, part, run, door, code] += count
        doors[door] += count
        if code:
            codes[code] += count
    for key in sorted(wanted.keys() | booked.keys()):
        if wanted[key] != booked[key]:
            topic, part, run, door, code = key
            found.add(
                f"fates of {topic}/{part} run {run}",
                f"found {booked[key]} {door} {code}".rstrip() + f"; expected {wanted[key]}",
                abs(wanted[key] - booked[key]),
            )
    total = sum(doors.values())
    if total != truth.total:
        found.add("fates", f"found {total} messages in all; expected {truth.total}")
    return dict(doors), dict(sorted(codes.items()))


def _check_refused(truth: Truth, client: Tables, found: _Findings) -> None:
    """Every refused message has its row, with its door and code, and no other message has one."""
    missing = {place for place, fate in truth.fates.items() if fate.door is not Door.ROUTED}
    for topic, part, offset, door, code, event_id in _rows(client, REFUSED_SQL):
        place = (topic, part, offset)
        fate = truth.fates.get(place)
        if fate is None or fate.door is Door.ROUTED:
            found.add(_text(place), f"found in quarantine as {code}; expected no row")
            continue
        missing.discard(place)
        if (door, code) != (fate.door.value, fate.code):
            found.add(_text(place), f"found {door} {code}; expected {fate.door} {fate.code}")
        if event_id not in ("", fate.id):
            found.add(_text(place), "quarantine field event_id differs")
    for place in sorted(missing):
        found.add(_text(place), f"no row in quarantine; expected {truth.fates[place].code}")


def _check_facts(truth: Truth, client: Tables, found: _Findings) -> int:
    """Every accepted event has one row, with every field as it has to be."""
    seen: set[Place] = set()
    rows = 0
    for row in _rows(client, FACTS_SQL):
        rows += 1
        topic, part, offset = row[_FIELDS:]
        place = (topic, part, offset)
        wanted = truth.facts.get(place)
        if wanted is None:
            found.add(_text(place), "found in facts; expected no row")
        elif place in seen:
            found.add(_text(place), "found in facts once more")
        else:
            _compare(place, wanted, row, found)
        seen.add(place)
    for place in sorted(truth.facts.keys() - seen):
        found.add(_text(place), "no row in facts; expected one")
    return rows


def _compare(place: Place, wanted: Fact, row: tuple[Any, ...], found: _Findings) -> None:
    fields = tuple(tuple(value) if isinstance(value, list) else value for value in row[:_FIELDS])
    wanted_fields = msgspec.structs.astuple(wanted)
    if fields == wanted_fields:
        return
    for name, value, right in zip(_NAMES, fields, wanted_fields, strict=True):
        if value != right:
            found.add(_text(place), f"facts field {name} differs")


def _check_cells(truth: Truth, client: Tables, found: _Findings) -> int:
    """Every rollup cell is there once, and is exactly equal."""
    seen: set[CellKey] = set()
    total = 0
    for *parts, n, amount_minor, histogram in _rows(client, CELLS_SQL):
        minute, event_type, campaign, channel, classes, currency, arm = parts
        key: CellKey = (minute, event_type, campaign, channel, classes, currency, arm)
        total += n
        wanted = truth.cells.get(key)
        if wanted is None:
            found.add(_cell_text(key), "found in rollup_1m; expected no cell")
        elif key in seen:
            found.add(_cell_text(key), "found in rollup_1m once more")
        else:
            _compare_cell(key, wanted, (n, amount_minor, histogram), found)
        seen.add(key)
    for key in sorted(truth.cells.keys() - seen):
        found.add(_cell_text(key), "no cell in rollup_1m; expected one")
    return total


def _compare_cell(
    key: CellKey, wanted: Cell, values: tuple[int, int, list[int]], found: _Findings
) -> None:
    right = (wanted.n, wanted.amount_minor, wanted.histogram.tolist())
    names = ("n", "amount_minor", "latency_hist")
    for name, value, expected in zip(names, values, right, strict=True):
        if value != expected:
            found.add(_cell_text(key), f"rollup field {name} differs")


def _cell_text(key: CellKey) -> str:
    """A cell by its minute and event type; the other parts are values of messages."""
    return f"rollup_1m minute {key[0]} {key[1]}"


def _check_copies(truth: Truth, copies: Iterable[Copy], found: _Findings) -> int:
    """Every message is in the topic that it has to be in, unchanged, and in no other."""
    seen: set[Place] = set()
    republished = 0
    for copy in copies:
        fate = truth.fates.get(copy.place) if copy.place else None
        if copy.place is None or fate is None:
            found.add(copy.topic, "found a record of an unknown origin")
            continue
        wanted = _topic_of(fate)
        if copy.topic != wanted:
            expected = wanted or "no record"
            found.add(_text(copy.place), f"found in {copy.topic}; expected {expected}")
            continue
        if fate.door is Door.ROUTED and copy.check != fate.check:
            found.add(_text(copy.place), f"key or body differs in {copy.topic}")
        if copy.code != fate.code:
            found.add(_text(copy.place), f"found code {copy.code}; expected {fate.code}")
        republished += copy.place in seen
        seen.add(copy.place)
    for place, fate in truth.fates.items():
        if place not in seen and _topic_of(fate):
            found.add(_text(place), f"no record in {_topic_of(fate)}; expected one")
    return republished


class Totals(Protocol):
    """What waiting needs of a ClickHouse client."""

    def command(self, cmd: str) -> Any:
        """Run a query with one value as its result."""


def _nothing() -> None:
    pass


def wait_until_decided(
    client: Totals,
    total: int,
    *,
    look: Callable[[], object] = _nothing,
    rest_s: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    steady_s: Callable[[], float] = time.monotonic,
) -> int:
    """Wait until the books hold so many messages, or have not moved for a while.

    `look` is called at every turn and may raise. Units: seconds. Shapes: the messages in the
    books; fewer than `total` when nothing moved any more.
    """
    booked = -1
    moved_s = steady_s()
    while True:
        look()
        now = int(client.command(TOTAL_SQL))
        if now != booked:
            booked, moved_s = now, steady_s()
        if booked >= total or steady_s() - moved_s >= rest_s:
            return booked
        sleep(0.2)
