"""Every way of tampering with what came out is found, and told without a value of a message."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from flows.simulate.copies import copy_of, place_of
from flows.simulate.truth import Fact
from flows.simulate.world import World
from flows.verify import (
    LATE_TOPIC,
    QUARANTINE_TOPIC,
    SENTENCES_MAX,
    TOTAL_SQL,
    Report,
    verify,
    wait_until_decided,
)
from schemas.errors import PermanentError
from tests.unit.flows.memory_run import END_MS, MemoryRun

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def clean() -> MemoryRun:
    run = MemoryRun(World(11, total=1_500, end_ms=END_MS))
    run.pass_through(run.as_read(Random(11)))
    return run


@pytest.fixture
def run(clean: MemoryRun) -> MemoryRun:
    """A run of the test's own, to tamper with."""
    own = copy.copy(clean)
    own.tables = copy.deepcopy(clean.tables)
    own.copies = list(clean.copies)
    return own


def check(run: MemoryRun) -> Report:
    return verify(run.truth, run.tables, copies=run.copies)


def test_a_run_that_nobody_touched_has_no_mismatch(run: MemoryRun) -> None:
    report = check(run)

    assert (0, ()) == (report.mismatches, report.sentences)
    assert report.doors == dict(run.truth.doors())
    assert report.codes == dict(run.truth.codes())


def test_the_report_says_which_door_a_code_leads_to() -> None:
    assert "quarantined" == Report.door_of("T101")
    assert "routed" == Report.door_of("")


def first(run: MemoryRun, table: str) -> dict[str, Any]:
    return next(iter(run.tables.rows[table].values()))


def a_paid(run: MemoryRun) -> dict[str, Any]:
    return max(run.tables.table("facts"), key=lambda row: row["amount_minor"])


def lose(table: str) -> Callable[[MemoryRun], None]:
    def tamper(run: MemoryRun) -> None:
        rows = run.tables.rows[table]
        del rows[next(iter(rows))]

    return tamper


def repeat(table: str) -> Callable[[MemoryRun], None]:
    def tamper(run: MemoryRun) -> None:
        run.tables.rows[table][("again",)] = dict(first(run, table))

    return tamper


def change(table: str, field: str, value: Any) -> Callable[[MemoryRun], None]:
    def tamper(run: MemoryRun) -> None:
        assert first(run, table)[field] != value
        first(run, table)[field] = value

    return tamper


def add_one(table: str, field: str) -> Callable[[MemoryRun], None]:
    def tamper(run: MemoryRun) -> None:
        row = first(run, table)
        row[field] = row[field] + 1

    return tamper


def move_in_the_histogram(run: MemoryRun) -> None:
    row = first(run, "rollup_1m_lanes")
    row["latency_hist"] = [*row["latency_hist"][1:], row["latency_hist"][0]]


def one_cent_more(run: MemoryRun) -> None:
    a_paid(run)["amount_minor"] += 1


def accept_a_refused_one(run: MemoryRun) -> None:
    """A refused message that is in facts as well."""
    refused = first(run, "quarantine")
    row = dict(first(run, "facts"))
    row |= {name: refused[name] for name in ("topic", "part", "off")}
    run.tables.rows["facts"][("smuggled",)] = row


TAMPERINGS: dict[str, Callable[[MemoryRun], None]] = {
    "a fact is missing": lose("facts"),
    "a fact is there twice": repeat("facts"),
    "a refused message is in facts": accept_a_refused_one,
    "an amount is off by one": one_cent_more,
    "a cell is missing": lose("rollup_1m_lanes"),
    "a cell is there twice": repeat("rollup_1m_lanes"),
    "a cell counts one more": add_one("rollup_1m_lanes", "n"),
    "a cell's amount is off by one": add_one("rollup_1m_lanes", "amount_minor"),
    "a cell is of another channel": change("rollup_1m_lanes", "channel", "pigeon"),
    "a latency is in another bucket": move_in_the_histogram,
    "a refused message has no row": lose("quarantine"),
    "a refused message has another code": change("quarantine", "code", "T999"),
    "a refused message has another door": change("quarantine", "door", "routed"),
    "a refused message has another id": change("quarantine", "event_id", "evt-other"),
    "an accepted message is in quarantine": repeat("quarantine"),
    "the books miss a line": lose("fates"),
    "the books count one more": add_one("fates", "n"),
    "the books name another code": change("fates", "code", "T999"),
    "the books name another run": add_one("fates", "run"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_with_a_table_is_found(name: str, run: MemoryRun) -> None:
    TAMPERINGS[name](run)
    if name == "an accepted message is in quarantine":
        fact = first(run, "facts")
        row = run.tables.rows["quarantine"][("again",)]
        row |= {key: fact[key] for key in ("topic", "part", "off")}
    report = check(run)

    assert report.mismatches > 0
    assert report.sentences


FACT_COLUMNS = {"class_text": "class"}


@pytest.mark.parametrize("field", Fact.__struct_fields__)
def test_every_field_of_a_fact_is_compared(field: str, run: MemoryRun) -> None:
    row = a_paid(run)
    column = FACT_COLUMNS.get(field, field)
    old = row[column]
    if isinstance(old, (int, np.integer)):
        row[column] = old + 1
    elif isinstance(old, str):
        row[column] = f"{old}x"
    else:
        row[column] = [*old, "x"]
    report = check(run)

    assert 1 == report.mismatches
    assert report.sentences[0].endswith(f"facts field {field} differs")


def test_sentences_name_places_and_fields_and_no_values(run: MemoryRun) -> None:
    row = a_paid(run)
    row["subject"], row["amount_minor"], row["zone"] = "usr_canary_0001", 4_711_4711, "Canary/Zone"
    sentences = " ".join(check(run).sentences)

    assert f"{row['topic']}/{row['part']}/{row['off']}: facts field subject differs" in sentences
    for value in ("canary", "Canary", "47114711", "usr_"):
        assert value not in sentences


def test_all_mismatches_are_counted_and_the_first_are_told(run: MemoryRun) -> None:
    for row in run.tables.table("facts"):
        row["tenant"] = "elsewhere"
    report = check(run)

    assert len(run.truth.facts) == report.mismatches
    assert SENTENCES_MAX == len(report.sentences)


def place_in(run: MemoryRun, topic: str) -> int:
    return next(number for number, seen in enumerate(run.copies) if seen.topic == topic)


def test_a_further_copy_in_the_right_topic_is_republished_and_no_mismatch(run: MemoryRun) -> None:
    run.copies.append(run.copies[place_in(run, "ntf.routed.open.v1")])
    report = check(run)

    assert (0, 1) == (report.mismatches, report.republished)


@pytest.mark.parametrize(
    "topic", ["ntf.routed.open.v1", "ntf.routed.restricted.v1", QUARANTINE_TOPIC, LATE_TOPIC]
)
def test_a_lost_copy_is_found(topic: str, run: MemoryRun) -> None:
    del run.copies[place_in(run, topic)]
    report = check(run)

    assert 1 == report.mismatches
    assert f"no record in {topic}; expected one" in report.sentences[0]


def test_a_leaked_copy_is_found_though_the_right_one_is_there(run: MemoryRun) -> None:
    copy_there = run.copies[place_in(run, "ntf.routed.restricted.v1")]
    run.copies.append(copy_there._replace(topic="ntf.routed.open.v1"))
    report = check(run)

    assert 1 == report.mismatches
    assert "found in ntf.routed.open.v1; expected ntf.routed.restricted.v1" in report.sentences[0]


def test_a_copy_of_a_dropped_message_is_found(run: MemoryRun) -> None:
    dropped = next(place for place, fate in run.truth.fates.items() if fate.code == "T602")
    run.copies.append(run.copies[0]._replace(place=dropped))

    assert "expected no record" in check(run).sentences[0]


def test_a_changed_body_is_found(run: MemoryRun) -> None:
    number = place_in(run, "ntf.routed.open.v1")
    run.copies[number] = run.copies[number]._replace(check=run.copies[number].check + 1)

    assert "key or body differs" in check(run).sentences[0]


def test_a_notice_with_another_code_is_found(run: MemoryRun) -> None:
    number = place_in(run, QUARANTINE_TOPIC)
    run.copies[number] = run.copies[number]._replace(code="T999")

    assert "found code T999" in check(run).sentences[0]


@pytest.mark.parametrize("origin", [None, b"", b"x/1/2", b"x/y/2/0", b"\xff", b"else.v1/0/0/0"])
def test_a_record_of_an_unknown_origin_is_found(origin: bytes | None, run: MemoryRun) -> None:
    headers = [("airside-origin", origin)] if origin is not None else []
    run.copies.append(copy_of("ntf.routed.open.v1", b"k", b"v", headers))

    assert 1 == check(run).mismatches


def test_an_origin_is_read_back_as_a_place() -> None:
    assert ("ntf.delivery.v1", 11, 40_000) == place_of(b"ntf.delivery.v1/11/40000/0")


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b"\xff"])
def test_a_notice_that_says_nothing_has_a_missing_code(value: bytes | None) -> None:
    assert "missing" == copy_of(QUARANTINE_TOPIC, b"k", value, []).code


class FakeTotals:
    """Books that grow as told, one reading after the other."""

    def __init__(self, readings: Iterator[int]) -> None:
        self._readings = readings
        self.read = 0

    def command(self, cmd: str) -> int:
        assert cmd == TOTAL_SQL
        self.read += 1
        return next(self._readings)


class HandClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def steady_s(self) -> float:
        return self.now_s


def test_waiting_ends_when_the_books_hold_everything() -> None:
    clock = HandClock()
    totals = FakeTotals(iter([0, 10, 10, 50, 100]))

    assert 100 == wait_until_decided(totals, 100, sleep=clock.sleep, steady_s=clock.steady_s)
    assert 5 == totals.read


def test_waiting_ends_when_nothing_has_moved_for_the_rest() -> None:
    clock = HandClock()
    totals = FakeTotals(iter([0, 10, *[60] * 100]))
    found = wait_until_decided(totals, 100, rest_s=3, sleep=clock.sleep, steady_s=clock.steady_s)

    assert 60 == found
    assert 3 <= clock.now_s < 4


def test_waiting_looks_around_at_every_turn() -> None:
    def look() -> None:
        raise PermanentError(do="keep running", kind="dataflow")

    with pytest.raises(PermanentError):
        wait_until_decided(FakeTotals(iter([0])), 1, look=look)
