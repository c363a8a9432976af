"""Properties of the gate against a plain model: doors, rollups, cuts, crashes, neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.blocks import Outputs, RawBlock
from schemas.rollup import bucket_of
from schemas.ticket import parse_time
from tests.messages import (
    DELIVERY,
    HOUR_MS,
    NOW_MS,
    Bench,
    Message,
    block,
    delivered,
    profile,
    rows_of,
    with_body,
)
from tests.unit.flows.memory_run import FakeTables

PEOPLE = ("usr_9f2c1b7ae04d3c58", "usr_0000000000000000", "usr_1111111111111111")
LATE_MS = 24 * HOUR_MS
START_MS = NOW_MS - 200 * HOUR_MS

Sent = tuple[Message, int]


class Move(NamedTuple):
    """What a drawn stream does next; `back` is hours behind the time it has reached."""

    kind: str
    number: int
    person: int
    back: int
    partition: int


moves = st.builds(
    Move,
    st.sampled_from(["event"] * 4 + ["wanted", "again", "broken", "secret", "profile", "tomb"]),
    st.integers(0, 9),
    st.integers(0, 2),
    st.sampled_from([0, 0, 0, 1, 23, 25, 60]),
    st.integers(0, 2),
)
streams = st.lists(moves, min_size=1, max_size=40)
sizes_of_cuts = st.lists(st.integers(1, 9), min_size=1, max_size=50)


def play(moves: Sequence[Move]) -> list[Sent]:
    """The messages of a stream; first one for each partition, so that none is new later."""
    sent: list[Sent] = [(delivered(900 + part, at_ms=START_MS), part) for part in range(3)]
    sent.append((profile(999, subject=PEOPLE[0]), 0))
    for at, move in enumerate(moves):
        at_ms = START_MS + (at * 4 - move.back) * HOUR_MS
        person = PEOPLE[move.person]
        event = delivered(move.number, at_ms=at_ms, subject=person)._replace(recorded_ms=at_ms + at)
        if move.kind == "wanted":
            event = delivered(move.number, at_ms=at_ms, subject=person, datapurpose="marketing")
        elif move.kind == "broken":
            event = event._replace(value=b"{")
        elif move.kind == "secret":
            event = delivered(move.number, at_ms=at_ms, dataclassification="SECRET")
        elif move.kind == "profile":
            granted = ["marketing"] if move.number % 2 else []
            event = profile(at, subject=person, consent=granted)
        elif move.kind == "tomb":
            event = profile(at, subject=person)._replace(value=None)
        elif move.kind == "again":
            earlier = [one for one in sent if one[0].topic == DELIVERY]
            event = earlier[(move.number * 7) % len(earlier)][0]
        sent.append((event, move.partition if event.topic == DELIVERY else 0))
    return sent


class Model:
    """The gate as one would do it by hand: one message at a time, plain dicts, no state of ours."""

    def __init__(self) -> None:
        self.newest: dict[tuple[str, int], int] = {}
        self.seen: dict[str, tuple[int, bytes | None]] = {}
        self.granted: dict[str, bool] = {}
        self.cells: dict[tuple[int, str], list[Any]] = {}

    def code_of(self, message: Message, partition: int, at_ms: int) -> str:
        told = {name: (value or b"").decode() for name, value in message.headers}
        where = (message.topic, partition)
        person, event_id = told["ce_subject"], told["ce_id"]
        if message.value is None:
            self.granted.pop(person, None)
            return "T606"
        if told["ce_dataclassification"] == "SECRET":
            return "T203"
        if message.value == b"{":
            return "T303"
        if at_ms < self.newest.get(where, 0) - LATE_MS:
            return "T601"
        if told["ce_datapurpose"] == "marketing" and not self.granted.get(person):
            return "T404"
        if event_id in self.seen:
            return "T602" if self.seen[event_id] == (at_ms, message.value) else "T603"
        self.seen[event_id] = (at_ms, message.value)
        self.newest[where] = max(self.newest.get(where, 0), at_ms)
        if message.topic != DELIVERY:
            self.granted[person] = b"marketing" in message.value
        cell = self.cells.setdefault((at_ms // 60_000, told["ce_type"]), [0, [0] * 32, 0])
        cell[0] += 1
        cell[1][bucket_of(message.recorded_ms - at_ms)] += 1
        cell[2] = max(cell[2], message.recorded_ms)
        return ""


def to_blocks(sent: Sequence[Sent], sizes: Sequence[int]) -> Iterator[RawBlock]:
    """Blocks of one topic each, of several partitions, with these sizes in turn."""
    ends: Counter[tuple[str, int]] = Counter()
    at = turn = 0
    while at < len(sent):
        size = sizes[turn % len(sizes)]
        topic = sent[at][0].topic
        run = list(sent[at : at + size])
        run = run[: next((i for i, one in enumerate(run) if one[0].topic != topic), len(run))]
        raw = block([message for message, _ in run])
        raw.partitions = [partition for _, partition in run]
        raw.offsets = []
        for _, partition in run:
            raw.offsets.append(ends[topic, partition])
            ends[topic, partition] += 1
        yield raw
        at += len(run)
        turn += 1


def bench() -> Bench:
    """A gate that remembers all of a stream: what is forgotten is the subject elsewhere."""
    return Bench(time={"duplicate_s_max": 2_000_000})


def run(at: Bench, blocks: Sequence[RawBlock]) -> list[Outputs]:
    return [at.gate.pass_block(at.checker.check(raw)) for raw in blocks]


def time_of(message: Message) -> int:
    return parse_time(dict(message.headers)["ce_time"] or b"") or 0


def tables_of(outputs: Sequence[Outputs]) -> dict[str, dict[Any, dict[str, Any]]]:
    tables = FakeTables()
    for output in outputs:
        for rows in output.rows:
            tables.insert(rows)
    plain = {
        name: {
            key: {n: getattr(v, "tolist", lambda v=v: v)() for n, v in row.items()}
            for key, row in rows.items()
        }
        for name, rows in tables.rows.items()
    }
    for row in plain.get("facts", {}).values():
        row.pop("hour")
    plain.pop("rollup_floors", None)  # told with a snapshot, so they differ with its place
    return plain


def records_of(outputs: Sequence[Outputs]) -> dict[Any, Any]:
    """By origin: all of a routed record; of a notice all but its sealed text, which has a nonce."""
    found: dict[Any, Any] = {}
    for output in outputs:
        for record in output.records:
            body = record.value if record.topic.startswith("ntf.routed") else None
            found[record.origin] = (record.topic, record.key, body, tuple(record.headers))
    return found


def codes_of(outputs: Sequence[Outputs]) -> dict[tuple[str, int, int], str]:
    """What became of each input offset; a place that is told of twice fails here."""
    found: dict[tuple[str, int, int], str] = {}
    for output in outputs:
        for row in [*rows_of(output, "facts"), *rows_of(output, "quarantine")]:
            place = (row["topic"], row["part"], row["off"])
            assert place not in found
            found[place] = row.get("code", "")
    return found


@given(streams, sizes_of_cuts)
@settings(max_examples=70, deadline=None)
def test_every_message_leaves_by_the_door_that_the_model_says(
    drawn: list[Move], sizes: list[int]
) -> None:
    sent, model = play(drawn), Model()
    blocks = list(to_blocks(sent, sizes))
    expected: dict[tuple[str, int, int], str] = {}
    ends: Counter[tuple[str, int]] = Counter()
    for message, part in sent:
        expected[message.topic, part, ends[message.topic, part]] = model.code_of(
            message, part, time_of(message)
        )
        ends[message.topic, part] += 1

    outputs = run(bench(), blocks)

    assert expected == codes_of(outputs)
    assert len(sent) == sum(sum(output.counts.values()) for output in outputs)
    tables = tables_of(outputs)
    books: Counter[str] = Counter()
    for row in tables["fates"].values():
        books[row["code"]] += row["n"]
    assert Counter(expected.values()) == books
    cells = {
        (row["w"] // 60_000, row["event_type"]): [row["n"], row["latency_hist"], row["recorded_at"]]
        for row in tables["rollup_1m_lanes"].values()
    }
    assert model.cells == cells


@given(streams, sizes_of_cuts, sizes_of_cuts)
@settings(max_examples=40, deadline=None)
def test_how_a_stream_is_cut_changes_no_record_and_no_row(
    drawn: list[Move], one: list[int], other: list[int]
) -> None:
    sent = play(drawn)
    first, second = (run(bench(), list(to_blocks(sent, sizes))) for sizes in (one, other))

    assert records_of(first) == records_of(second)
    assert tables_of(first) == tables_of(second)


KINDS = (
    delivered(0),
    delivered(0, dataclassification="PUBLIC"),
    delivered(0, dataclassification="PCI", datapurpose="payment"),
    delivered(0, dataclassification="PCI", datapurpose="marketing"),
    delivered(0, dataclassification="SECRET"),
    delivered(0, datapurpose="gossip"),
    delivered(0, datapurpose="marketing"),
    delivered(0, type="ntf.delivery.lost.v1"),
    delivered(0, datahops="ro.a1.0"),
    delivered(0)._replace(value=None),
    delivered(0)._replace(value=b"[" * 50_000),
    delivered(0)._replace(value=b"\xff"),
    delivered(0)._replace(key=None),
    delivered(0)._replace(headers=[]),
    with_body(delivered(0), channel=1),
)


@given(st.lists(st.integers(0, len(KINDS) - 1), min_size=2, max_size=30), st.randoms())
@settings(max_examples=40, deadline=None)
def test_a_message_does_not_care_who_stands_beside_it(kinds: list[int], rng: Random) -> None:
    alone = [outcome(kind) for kind in kinds]
    order = list(range(len(kinds)))
    rng.shuffle(order)
    messages = [numbered(kinds[at], at) for at in order]
    outputs = Bench().pass_(*messages)

    topics = {record.origin.offset: record.topic for record in outputs.records}
    codes = {place[2]: code for place, code in codes_of([outputs]).items()}
    found = [(topics.get(place, ""), codes[place]) for place in range(len(order))]
    assert [alone[at] for at in order] == found


def numbered(kind: int, number: int) -> Message:
    message = KINDS[kind]
    headers = [
        (name, f"evt-{number:012d}".encode() if name == "ce_id" else value)
        for name, value in message.headers
    ]
    return message._replace(headers=headers)


@cache
def outcome(kind: int) -> tuple[str, str]:
    outputs = Bench().pass_(KINDS[kind])
    [code] = codes_of([outputs]).values()
    return (outputs.records[0].topic if outputs.records else "", code)


@given(streams, sizes_of_cuts, st.integers(0, 3))
@settings(max_examples=12, deadline=None)
def test_a_crash_after_any_block_changes_nothing_in_the_end(
    drawn: list[Move], sizes: list[int], lost: int
) -> None:
    """At every position: keep the state, lose the next blocks, read the table again, go on."""
    blocks = list(to_blocks(play(drawn), sizes))
    steady = run(bench(), blocks)
    live = bench()
    states = [live.gate.dump()]
    for raw in blocks:
        run(live, [raw])
        states.append(live.gate.dump())
    for at, state in enumerate(states):
        again = bench()
        again.gate.load(state)
        profiles = [raw for raw in blocks[:at] if raw.topic != DELIVERY]
        outputs = steady[: at + lost] + run(again, profiles) + run(again, blocks[at:])

        assert tables_of(steady) == tables_of(outputs)
        assert records_of(steady) == records_of(outputs)
        assert live.gate.dump() == again.gate.dump()


@given(streams, sizes_of_cuts)
@settings(max_examples=20, deadline=None)
def test_a_state_that_was_given_away_never_changes(drawn: list[Move], sizes: list[int]) -> None:
    live, again = bench(), bench()
    blocks = list(to_blocks(play(drawn), sizes))
    half = len(blocks) // 2
    run(live, blocks[:half])
    state = live.gate.dump()
    kept = bytes(state)
    run(live, blocks[half:])
    again.gate.load(state)

    assert kept == state == again.gate.dump()


@given(streams, st.randoms())
@settings(max_examples=30, deadline=None)
def test_a_table_that_is_written_in_any_order_holds_the_same(
    drawn: list[Move], rng: Random
) -> None:
    outputs = run(bench(), list(to_blocks(play(drawn), [3, 1, 5])))
    shuffled = list(outputs) * 2
    rng.shuffle(shuffled)
    steady, mixed = tables_of(outputs), tables_of(shuffled)

    assert steady["fates"] == mixed["fates"]
    assert steady["rollup_1m_lanes"] == mixed["rollup_1m_lanes"]


def test_a_table_that_is_read_again_is_the_table_of_the_steady_run() -> None:
    grant, withdraw = profile(1, consent=["marketing"]), profile(2)
    live, again = bench(), bench()
    blocks = list(to_blocks([(grant, 0), (withdraw, 0), (grant, 0)], [1]))
    run(live, blocks)
    again.gate.load(live.gate.dump())
    run(again, blocks)
    wanted = [block([delivered(5, datapurpose="marketing")])]

    assert codes_of(run(live, wanted)) == codes_of(run(again, wanted))
