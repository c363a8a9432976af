"""The oracle: works out from the input topics alone what has to have come of every record.

It shares nothing with the code that it judges: plain Python and JSON, and its own reading of the
documented tables and headers. Which door a message leaves by is the gate's to say; that it leaves
by exactly one, once, unchanged, in order, and is counted right, is checked here.
Sentences name places, fields, doors and codes, and never a value of a message.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

ROUTED: Final = "routed"
DROPPED: Final = "dropped"
OPEN_TOPIC: Final = "ntf.routed.open.v1"
ROUTED_TOPICS: Final = (OPEN_TOPIC, "ntf.routed.restricted.v1", "ntf.routed.pci.v1")
NOTICE_TOPICS: Final = {"ntf.quarantine.v1": "quarantined", "ntf.late.v1": "late"}
OUTPUT_TOPICS: Final = (*ROUTED_TOPICS, *NOTICE_TOPICS)
INPUT_TOPICS: Final = (
    "ntf.profiles.v1",
    "ntf.requests.v1",
    "ntf.delivery.v1",
    "ntf.engagement.v1",
)
CANARY: Final = "canary-"
"""How every planted value begins."""

BUCKETS: Final = 32
EDGES_MS: Final = [2**power for power in range(BUCKETS - 1)]
OFFSETS_IN_A_RUN: Final = 10_000
SENTENCES_MAX: Final = 12
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)

Place = tuple[str, int, int]
Headers = Sequence[tuple[str, bytes | None]]


class Told(NamedTuple):
    """What an accepted input record says about itself. Units: milliseconds, minor units."""

    event_id: str
    event_type: str
    source: str
    event_ms: int
    recorded_ms: int
    purpose: str
    classes: str
    subject: str
    journey: str
    cause: str
    notification: str
    campaign: str
    tenant: str
    channel: str
    arm: str
    reason: str
    amount_minor: int
    currency: str


class Copy(NamedTuple):
    """One record of an output topic, as read_committed consumers see it.

    Shapes: `code` empty for a routed one; `leaks` when it carries a planted value in the clear.
    """

    topic: str
    partition: int
    offset: int
    origin: Place | None
    check: int
    code: str
    leaks: bool


class Refusal(NamedTuple):
    """One row of the quarantine table."""

    place: Place
    door: str
    code: str


class Evidence(NamedTuple):
    """Everything that was read: inputs, outputs, tables.

    Shapes: `inputs` gives each record's checksum; `told` the accepted ones; `cells` rows of
    (minute, type, campaign, channel, classes, currency, arm, n, amount, histogram); `fates` rows of
    (topic, partition, run, door, code, n); `ends` the end of each input partition.
    """

    inputs: Mapping[Place, int]
    ends: Mapping[tuple[str, int], int]
    told: Mapping[Place, Told]
    copies: Sequence[Copy]
    refused: Sequence[Refusal]
    facts: Sequence[tuple[Place, Told]]
    cells: Sequence[tuple[Any, ...]]
    fates: Sequence[tuple[str, int, int, str, str, int]]
    leaking_rows: Mapping[str, int]
    leaking_log_lines: int = 0


class Findings:
    """Counts violations by kind and keeps the first ones in words."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sentences: list[str] = []

    def add(self, kind: str, where: str, what: str, count: int = 1) -> None:
        """Note a violation."""
        self.counts[kind] += count
        if self.sentences_of(kind) < SENTENCES_MAX:
            self.sentences.append(f"{kind}: {where}: {what}")

    def sentences_of(self, kind: str) -> int:
        """How many of a kind are in words already."""
        return sum(sentence.startswith(f"{kind}: ") for sentence in self.sentences)


def checksum(key: bytes | None, value: bytes | None) -> int:
    """A number that tells whether key and body are as they were."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


def origin_of(headers: Headers) -> Place | None:
    """Where an output record says it comes from; None when it does not say."""
    for name, value in headers:
        if name == "airside-origin" and value is not None:
            parts = value.decode("utf-8", "replace").rsplit("/", 3)
            if len(parts) == 4 and parts[1].isdecimal() and parts[2].isdecimal():
                return (parts[0], int(parts[1]), int(parts[2]))
    return None


def code_of(value: bytes | None) -> str:
    """The code in a notice; `missing` when there is none."""
    try:
        return str(json.loads(value or b"")["code"])
    except (ValueError, KeyError, TypeError):
        return "missing"


def carries_canary(key: bytes | None, value: bytes | None, headers: Headers) -> bool:
    """Whether a planted value is anywhere in a record."""
    word = CANARY.encode()
    parts = (key, value, *(content for _, content in headers))
    return any(part is not None and word in part for part in parts)


def moment_ms(text: str) -> int:
    """An RFC 3339 time in milliseconds since 1970, parts of a millisecond cut off.

    >>> moment_ms("1970-01-01T01:00:01.250999+01:00")
    1250
    """
    return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MS


def bucket(latency_ms: int) -> int:
    """The histogram bucket: 0 for 0 ms and less, i for [2^(i-1), 2^i), the last for the rest.

    >>> [bucket(ms) for ms in (-1, 0, 1, 2, 3, 4)]
    [0, 0, 1, 2, 2, 3]
    """
    return bisect_right(EDGES_MS, latency_ms)


def told_by(headers: Headers, value: bytes | None, recorded_ms: int) -> Told:
    """Read an accepted record: its ticket by the documented names, its body as JSON."""
    ticket = {name: (text or b"").decode() for name, text in headers}
    classes = ticket.get("ce_dataclassification") or ticket["classification"]
    body: dict[str, Any] = json.loads(value or b"{}")

    def word(name: str) -> str:
        return str(body.get(name) or "")

    return Told(
        event_id=ticket["ce_id"],
        event_type=ticket["ce_type"],
        source=ticket["ce_source"],
        event_ms=moment_ms(ticket["ce_time"]),
        recorded_ms=recorded_ms,
        purpose=ticket.get("ce_datapurpose") or ticket["purpose"],
        classes=",".join(sorted({part.strip() for part in classes.split(",")})),
        subject=ticket.get("ce_subject", ""),
        journey=ticket["ce_correlationid"],
        cause=ticket.get("ce_causationid", ""),
        notification=word("notification_id"),
        campaign=word("campaign"),
        tenant=word("tenant"),
        channel=word("channel"),
        arm=word("arm"),
        reason=word("reason"),
        amount_minor=int(body.get("amount_minor") or 0),
        currency=word("currency"),
    )


def judge(evidence: Evidence) -> Findings:
    """Check everything; no finding means that every invariant held."""
    found = Findings()
    doors = check_doors(evidence, found)
    check_copies(evidence, found)
    check_order(evidence.copies, found)
    check_refused(evidence, doors, found)
    check_facts(evidence, found)
    check_cells(evidence, found)
    check_fates(evidence.fates, doors, found)
    check_leaks(evidence, found)
    return found


def text(place: Place) -> str:
    """A place in words."""
    return "/".join(map(str, place))


def check_doors(evidence: Evidence, found: Findings) -> dict[Place, tuple[str, str]]:
    """Each input offset below the end leaves by one door; gives door and code of each."""
    doors: dict[Place, tuple[str, str]] = {}
    for copy in evidence.copies:
        if copy.origin is None or copy.origin not in evidence.inputs:
            found.add("unknown", copy.topic, f"origin at offset {copy.offset} was never sent")
        elif copy.origin in doors:
            found.add("doubled", text(copy.origin), f"once more in {copy.topic}")
        else:
            doors[copy.origin] = (NOTICE_TOPICS.get(copy.topic, ROUTED), copy.code)
    for row in evidence.refused:
        # A dropped message is told of in the table only.
        if row.door == DROPPED and row.place in doors:
            found.add("doubled", text(row.place), f"dropped, and {doors[row.place][0]} as well")
        elif row.door == DROPPED:
            doors[row.place] = (DROPPED, row.code)
    for (topic, part), end in evidence.ends.items():
        for offset in range(end):
            if (topic, part, offset) not in doors:
                found.add("lost", f"{topic}/{part}/{offset}", "left by no door")
    return doors


def check_copies(evidence: Evidence, found: Findings) -> None:
    """Routed records are what came in, key and body."""
    for copy in evidence.copies:
        if copy.topic in ROUTED_TOPICS and copy.origin in evidence.inputs:
            assert copy.origin is not None
            if copy.check != evidence.inputs[copy.origin]:
                found.add("changed", text(copy.origin), f"key or body differs in {copy.topic}")


def check_order(copies: Iterable[Copy], found: Findings) -> None:
    """What came from one partition lies in each output partition in the order it came.

    A key has one partition on either side, so this holds the order of each key, too. A further
    copy of the same record is a double, not a disorder.
    """
    newest: dict[tuple[str, int, str, int], int] = {}
    for copy in sorted(copies, key=lambda copy: (copy.topic, copy.partition, copy.offset)):
        if copy.origin is None:
            continue
        path = (copy.topic, copy.partition, *copy.origin[:2])
        before = newest.get(path, -1)
        if copy.origin[2] < before:
            found.add("misordered", text(copy.origin), f"behind offset {before} in {copy.topic}")
        newest[path] = max(before, copy.origin[2])


def check_refused(
    evidence: Evidence, doors: Mapping[Place, tuple[str, str]], found: Findings
) -> None:
    """The table holds each refused message once, with the door and code of its notice."""
    missing = {place for place, (door, _) in doors.items() if door != ROUTED}
    seen: set[Place] = set()
    for row in evidence.refused:
        if row.place in seen:
            found.add("wrong_refused", text(row.place), "in the quarantine table once more")
        elif doors.get(row.place) != (row.door, row.code):
            found.add("wrong_refused", text(row.place), f"in the table as {row.door} {row.code}")
        seen.add(row.place)
    for place in sorted(missing - seen):
        found.add("wrong_refused", text(place), "not in the quarantine table")


def check_facts(evidence: Evidence, found: Findings) -> None:
    """One row for each routed message, equal to what the record said."""
    seen: set[Place] = set()
    for place, row in evidence.facts:
        told = evidence.told.get(place)
        if told is None:
            found.add("wrong_facts", text(place), "a row for what was not routed")
        elif place in seen:
            found.add("wrong_facts", text(place), "a further row")
        elif told != row:
            names = [name for name in Told._fields if getattr(told, name) != getattr(row, name)]
            found.add("wrong_facts", text(place), f"{', '.join(names)} differs")
        seen.add(place)
    for place in sorted(evidence.told.keys() - seen):
        found.add("wrong_facts", text(place), "no row")


def expected_cells(told: Iterable[Told]) -> dict[tuple[Any, ...], list[Any]]:
    """The rollup that follows from accepted records: key → [n, amount, histogram]."""
    cells: dict[tuple[Any, ...], list[Any]] = {}
    for event in told:
        key = (
            event.event_ms // 60_000,
            event.event_type,
            event.campaign,
            event.channel,
            event.classes,
            event.currency,
            event.arm,
        )
        cell = cells.setdefault(key, [0, 0, [0] * BUCKETS])
        cell[0] += 1
        cell[1] += event.amount_minor
        cell[2][bucket(event.recorded_ms - event.event_ms)] += 1
    return cells


def check_cells(evidence: Evidence, found: Findings) -> None:
    """Every rollup cell is there once and exactly equal."""
    wanted = expected_cells(evidence.told.values())
    for *parts, n, amount_minor, histogram in evidence.cells:
        where = f"minute {parts[0]} {parts[1]}"
        cell = wanted.pop(tuple(parts), None)
        if cell is None:
            found.add("wrong_cells", where, "a cell that should not be, or once more")
        elif cell != [n, amount_minor, list(histogram)]:
            found.add("wrong_cells", where, f"found n {n}; expected {cell[0]}")
    for key in wanted:
        found.add("wrong_cells", f"minute {key[0]} {key[1]}", "no cell")


def check_fates(
    rows: Iterable[tuple[str, int, int, str, str, int]],
    doors: Mapping[Place, tuple[str, str]],
    found: Findings,
) -> None:
    """The books add up: by partition, run of offsets, door and code."""
    wanted: Counter[tuple[str, int, int, str, str]] = Counter()
    for (topic, part, offset), (door, code) in doors.items():
        wanted[topic, part, offset // OFFSETS_IN_A_RUN, door, code] += 1
    booked: dict[tuple[str, int, int, str, str], int] = defaultdict(int)
    for topic, part, run, door, code, count in rows:
        booked[topic, part, run, door, code] += count
    for key in sorted(wanted.keys() | booked.keys()):
        if wanted[key] != booked.get(key, 0):
            topic, part, run, door, code = key
            what = f"booked {booked.get(key, 0)} {door} {code}; expected {wanted[key]}"
            found.add("wrong_fates", f"{topic}/{part} run {run}", what)


def check_leaks(evidence: Evidence, found: Findings) -> None:
    """No planted value in the open topic, a notice, a table or a log."""
    for copy in evidence.copies:
        if copy.leaks and (copy.topic == OPEN_TOPIC or copy.topic in NOTICE_TOPICS):
            where = text(copy.origin) if copy.origin else f"offset {copy.offset}"
            found.add("leaked", where, f"a planted value in {copy.topic}")
    check_leaking_rows(evidence.leaking_rows, found)
    if evidence.leaking_log_lines:
        found.add("leaked", "log", "a planted value in lines", evidence.leaking_log_lines)


def check_leaking_rows(rows: Mapping[str, int], found: Findings) -> None:
    """No planted value in tables, by how many rows of each have one."""
    for table, count in rows.items():
        if count:
            found.add("leaked", table, "a planted value in rows", count)
