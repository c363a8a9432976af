"""Rows on their way behind the flow: what is saved, what is waited for, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from connectors.clickhouse.behind import BehindPartition, BehindSink
from connectors.clickhouse.behind_writer import AHEAD_MAX, BehindWriter
from connectors.clickhouse.gather import Part, to_batch
from connectors.clickhouse.receipts import Receipts
from connectors.clickhouse.saved_rows import dump_rows, read_rows
from connectors.clickhouse.tables import TABLES
from connectors.clickhouse.writer import TableWriter
from connectors.courier import ThreadCourier
from schemas.blocks import Rows
from schemas.errors import PermanentError, TransientError


class Table:
    """A ClickHouse that keeps what it is sent, or is away."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.tables: list[str] = []
        self.away = False

    def insert_arrow(self, name: str, rows: Any) -> None:
        if self.away:
            raise ConnectionRefusedError
        self.tables.append(name)
        self.runs += rows["run"].to_pylist() if "run" in rows.column_names else []


class Held:
    """A courier that goes when it is told, or when somebody waits for it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Future[None]]] = []

    def submit(self, act: Callable[[], None]) -> Future[None]:
        told = _Asked(self)
        self.waiting.append((act, told))
        return told

    def go(self, until: Future[None] | None = None) -> None:
        while self.waiting and not (until and until.done()):
            act, told = self.waiting.pop(0)
            try:
                act()
            except TransientError as err:
                told.set_exception(err)
            else:
                told.set_result(None)


class _Asked(Future[None]):
    def __init__(self, courier: Held) -> None:
        super().__init__()
        self._courier = courier

    def result(self, timeout: float | None = None) -> None:
        if not self.done():
            self._courier.go(until=self)
        return super().result(timeout)


class Slow(Held):
    """A courier that takes so long for each thing, by a clock that stands still otherwise."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.now_s = self._ready_s = 0.0
        self._seconds = seconds

    def submit(self, act: Callable[[], None]) -> Future[None]:
        told = _Waited(self)
        self.waiting.append((act, told))
        return told

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        while self.waiting and self._ready_s + self._seconds <= self.now_s:
            self._ready_s += self._seconds
            act, told = self.waiting.pop(0)
            act()
            told.set_result(None)


class _Waited(Future[None]):
    def __init__(self, courier: Slow) -> None:
        super().__init__()
        self._courier = courier

    def result(self, timeout: float | None = None) -> None:
        if not self.done():
            assert timeout is not None, "a wait without a bound"
            self._courier.pass_time(timeout)
        return super().result(0)


class World:
    """A sink of two lanes, whose courier and ClickHouse the test holds."""

    def __init__(
        self, *, rows_max: int = 1_000, stop: bool = False, folder: Path | None = None
    ) -> None:
        self.table, self.courier = Table(), Held()
        self.stopped = stop
        client: Any = self.table
        self.sink = BehindSink(
            lanes=2,
            make_writer=lambda: TableWriter(client, retry_s_max=0.0, sleep=lambda _: None),
            rows_max=rows_max,
            stop=lambda: self.stopped,
            make_courier=lambda: self.courier,
            receipts=Receipts(folder) if folder else None,
        )

    def lane(self, number: int = 0, state: bytes | None = None) -> BehindPartition:
        return self.sink.build_part("write_rows", f"{number:03d}", state)


def fates(*runs: int) -> Rows:
    words = {"topic": "t.v1", "door": "routed", "code": "", "source": "/a"}
    numbers = {"part": 0, "lane": 0, "n": 1, "ver": 1}
    columns = {name: [value] * len(runs) for name, value in {**words, **numbers}.items()}
    return Rows("fates", len(runs), {**columns, "run": list(runs)})


def floors(minute: int) -> Rows:
    return Rows("rollup_floors", 1, {"lane": [0], "floor": [minute], "ver": [minute]})


def runs_of(state: bytes | None) -> list[int]:
    assert state is not None
    [batches] = read_rows(state).values()
    return [run for batch in batches for run in batch["run"].to_pylist()]


def test_an_epoch_ends_before_clickhouse_confirmed_and_saves_what_is_left() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1, 2)], [fates(3)]])
    state = lane.snapshot()

    assert [] == world.table.runs
    assert [1, 2, 3] == runs_of(state)


def test_what_was_confirmed_in_time_is_not_saved() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1)]])
    lane.snapshot()
    world.courier.go()
    lane.write_batch([[fates(2)]])

    assert [2] == runs_of(lane.snapshot())
    assert [1] == world.table.runs


def test_an_epoch_waits_for_the_one_before_it_so_that_no_more_than_two_are_behind() -> None:
    world = World()
    lane = world.lane()
    for run in (1, 2, 3):
        lane.write_batch([[fates(run)]])
        state = lane.snapshot()

    assert [1] == world.table.runs[:1]
    assert 1 not in runs_of(state)
    assert 3 in {*runs_of(state), *world.table.runs}


def test_a_start_writes_what_an_earlier_run_had_not_got_confirmed() -> None:
    before = World()
    lane = before.lane(1)
    lane.write_batch([[fates(1, 2)]])
    state = lane.snapshot()
    after = World()
    after.lane(1, state)
    after.courier.go()

    assert [1, 2] == after.table.runs


def test_rows_that_were_confirmed_after_they_were_saved_are_not_written_by_a_start(
    tmp_path: Path,
) -> None:
    """A lane that has no traffic saves nothing new; what was deleted since stays deleted."""
    before = World(folder=tmp_path)
    one, other = before.lane(0), before.lane(1)
    one.write_batch([[fates(1)]])
    other.write_batch([[fates(2)]])
    states = [one.snapshot(), other.snapshot()]
    before.courier.go()
    after = World(folder=tmp_path)
    for number, state in enumerate(states):
        after.lane(number, state)
    after.courier.go()

    assert [1, 2] == sorted(before.table.runs)
    assert [] == after.table.runs


def test_rows_that_a_start_wrote_are_not_written_by_the_next(tmp_path: Path) -> None:
    before = World(folder=tmp_path)
    lane = before.lane()
    lane.write_batch([[fates(1)]])
    state = lane.snapshot()
    starts = [World(folder=tmp_path) for _ in range(3)]
    for start in starts:
        start.lane(0, state)
        start.courier.go()

    assert [[1], [], []] == [start.table.runs for start in starts]


@pytest.mark.parametrize("end", ["not confirmed", "failed", "no receipt", "of another epoch"])
def test_rows_without_a_receipt_are_written_by_each_start(tmp_path: Path, end: str) -> None:
    before = World(folder=tmp_path)
    lane = before.lane()
    lane.write_batch([[fates(1)]])
    state = lane.snapshot()
    before.table.away = end == "failed"
    if end != "not confirmed":
        before.courier.go()
    if end == "no receipt":
        (tmp_path / "000.confirmed").write_text("")
    if end == "of another epoch":
        lane.write_batch([[fates(2)]])
        lane.snapshot()
        before.courier.go()
    after = World(folder=tmp_path)
    after.lane(0, state)
    after.courier.go()

    assert [1] == after.table.runs


def test_no_receipt_is_given_for_rows_that_are_not_on_their_way(tmp_path: Path) -> None:
    before = World(folder=tmp_path)
    lane = before.lane()
    lane.write_batch([[fates(1)]])
    state = lane._writer.unconfirmed(0)
    before.courier.go()
    after = World(folder=tmp_path)
    after.lane(0, state)
    after.courier.go()

    assert ([], [1]) == (before.table.runs, after.table.runs)


def test_a_receipt_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("")
    world = World(folder=tmp_path / "no-folder")
    lane = world.lane()
    for run in (1, 2):
        lane.write_batch([[fates(run)]])
        lane.snapshot()
    world.courier.go()

    assert [1, 2] == world.table.runs


@pytest.mark.parametrize("last", ["another epoch", "the end"])
def test_an_epoch_waits_no_longer_than_its_transaction_may_stay_open(last: str) -> None:
    """For the rows of the epoch before it and for its own: one bound for both together."""
    courier, table = Slow(40.0), Table()
    client: Any = table
    beats: list[float] = []
    writer = BehindWriter(
        TableWriter(client, sleep=lambda _: None),
        courier,
        rows_max=1,
        wait_s_max=100.0,
        on_wait=lambda: beats.append(courier.now_s),
        steady_s=lambda: courier.now_s,
    )

    def add(*runs: int) -> None:
        for run in runs:
            writer.add(0, fates(run))

    for run in (1, 2):
        add(run)
        writer.end_epoch()
    assert 80.0 == courier.now_s, "for all of the epoch before"
    with pytest.raises(TransientError, match="in 100 s of one epoch"):
        if last == "the end":
            add(3)
            writer.finish()
        else:
            add(*range(3, 9))
    assert 180.0 == courier.now_s
    assert len(beats) > 100


def test_late_in_an_epoch_its_rows_are_handed_over_once_so_that_few_are_saved() -> None:
    courier, table = Slow(0.5), Table()
    client: Any = table
    befores: list[int] = []
    writer = BehindWriter(
        TableWriter(client),
        courier,
        rows_max=1_000,
        early_s=4.0,
        before_early=lambda: befores.append(len(courier.waiting)),
        steady_s=lambda: courier.now_s,
    )
    for start_s in (0.0, 10.0):
        for second in range(5):
            courier.pass_time(start_s + second - courier.now_s)
            writer.look_at_clock()
            writer.add(0, fates(int(start_s) + second))
        courier.pass_time(0.9)
        sent = list(table.runs)
        writer.end_epoch()

        assert [int(start_s) + second for second in range(4)] == sent[-4:]
        assert [int(start_s) + 4] == runs_of(writer.unconfirmed(0))
    writer.finish()
    assert [0, 1, 2, 3, 4, 10, 11, 12, 13, 14] == table.runs
    assert [0, 0] == befores


def test_rows_that_were_handed_over_early_are_saved_until_they_are_confirmed() -> None:
    world = World()
    world.sink.early_s = 0.0
    lane = world.lane()
    lane.write_batch([[fates(1), fates(2)], [fates(3)]])

    assert 1 == len(world.courier.waiting), "the rows of one block go together"
    assert [1, 2, 3] == runs_of(lane.snapshot())
    world.courier.go()
    assert [1, 2, 3] == world.table.runs


def test_an_end_without_rows_of_its_own_has_a_bound_of_its_own() -> None:
    courier = Slow(40.0)
    client: Any = Table()
    writer = BehindWriter(
        TableWriter(client), courier, rows_max=1, wait_s_max=100.0, steady_s=lambda: courier.now_s
    )
    for run in (1, 2):
        writer.add(0, fates(run))
        writer.end_epoch()
    writer.finish()

    assert writer.unconfirmed(0) is None


def test_blocks_without_rows_are_nothing_to_send() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates()]])
    lane.snapshot()
    world.courier.go()

    assert [] == world.table.tables


def test_a_receipt_of_another_database_is_none(tmp_path: Path) -> None:
    Receipts(tmp_path, store="one").write(0, b"rows")

    assert Receipts(tmp_path, store="one").has(0, b"rows")
    assert not Receipts(tmp_path, store="two").has(0, b"rows")


def test_what_is_done_at_the_last_moment_of_a_look_is_well() -> None:
    class LateFuture(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            if not self.done():
                self.set_result(None)
                raise TimeoutError
            return super().result(timeout)

    class Late(Held):
        def submit(self, act: Callable[[], None]) -> Future[None]:
            act()
            return LateFuture()

    client: Any = Table()
    writer = BehindWriter(TableWriter(client), Late(), rows_max=1_000)
    writer.add(0, fates(1))
    writer.finish()

    assert writer.unconfirmed(0) is None


def test_a_lane_saves_its_own_rows_and_no_others() -> None:
    world = World()
    one, other = world.lane(0), world.lane(1)
    one.write_batch([[fates(1)]])
    other.write_batch([[fates(2)]])

    assert ([1], [2]) == (runs_of(one.snapshot()), runs_of(other.snapshot()))
    world.courier.go()
    assert ["fates"] == world.table.tables
    assert [1, 2] == sorted(world.table.runs)


def test_the_last_epoch_is_confirmed_before_the_flow_ends() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1)]])
    lane.snapshot()
    world.stopped = True
    lane.write_batch([[fates(2)]])

    assert lane.snapshot() is None
    assert [1, 2] == world.table.runs


def test_a_table_far_behind_makes_the_flow_wait() -> None:
    world = World(rows_max=2)
    lane = world.lane()
    for run in range(2 * AHEAD_MAX + 4):
        lane.write_batch([[fates(run)]])

    assert world.table.runs
    assert len(world.courier.waiting) <= AHEAD_MAX


def test_a_failed_insert_is_raised_and_its_rows_are_never_taken_for_confirmed() -> None:
    world = World()
    lane = world.lane()
    world.table.away = True
    lane.write_batch([[fates(1)]])
    state = lane.snapshot()
    world.courier.go()
    lane.write_batch([[fates(2)]])

    with pytest.raises(TransientError, match="nothing is lost"):
        lane.snapshot()
    assert [1] == runs_of(state)
    assert {1, 2} == {*runs_of(lane._writer.unconfirmed(0))}


def test_the_books_are_written_last_also_after_a_restart() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1), floors(7)]])
    state = lane.snapshot()
    world.courier.go()
    after = World()
    after.lane(0, state)
    after.courier.go()

    assert ["rollup_floors", "fates"] == world.table.tables == after.table.tables


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (msgspec.msgpack.encode({"version": 3, "rows": {}}), "version 3"),
        (
            msgspec.msgpack.encode({"version": 2, "rows": {}, "loose": {"gone": [(1, {})]}}),
            "rows of table gone",
        ),
        (
            msgspec.msgpack.encode(
                {"version": 2, "rows": {}, "loose": {"fates": [(1, {"run": ["?"]})]}}
            ),
            "other columns of table fates",
        ),
        (msgspec.msgpack.encode({"version": 1, "rows": {"gone": b""}}), "rows of table gone"),
        (b"\xc1", "no rows with a version"),
    ],
)
def test_rows_of_another_release_are_refused_in_words(state: bytes, found: str) -> None:
    with pytest.raises(PermanentError, match=found):
        World().lane(0, state)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_saved_rows_that_were_no_batch_yet_get_what_is_new_empty_too(table: str) -> None:
    schema = TABLES[table].schema
    first = read_rows(
        msgspec.msgpack.encode({"version": 2, "rows": {}, "loose": {table: [(2, {})]}})
    )[table][0]
    told = {name: first[name].to_pylist() for name in schema.names[:1]}
    if any(isinstance(value, datetime) for values in told.values() for value in values):
        told = {name: [0, 0] for name in told}

    read = read_rows(
        msgspec.msgpack.encode({"version": 2, "rows": {}, "loose": {table: [(2, told)]}})
    )

    [found] = read[table]
    assert schema == found.schema
    assert 2 == found.num_rows
    assert first.equals(found)


def test_few_rows_are_saved_as_they_are_and_are_the_same_rows_afterwards() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1, 2)], [fates(1, 3)]])
    state = lane.snapshot()
    assert state is not None
    assert {"fates"} == {*msgspec.msgpack.decode(state)["loose"]}
    assert {} == msgspec.msgpack.decode(state)["rows"]

    after = World()
    after.lane(0, state)
    after.courier.go()
    world.courier.go()

    assert sorted(world.table.runs) == sorted(after.table.runs) == [1, 2, 3]


def test_what_the_courier_gets_is_put_down_before_he_begins() -> None:
    """So that the flow does not wait for its turn at the interpreter while it saves."""
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1)]])
    begun: list[int] = []
    submit = world.courier.submit

    def at_once(act: Callable[[], None]) -> Future[None]:
        begun.append(len(lane._writer._saved))
        return submit(act)

    lane._writer._courier = _Told(at_once)
    lane.snapshot()

    assert [1, 1] == begun


def test_what_is_put_down_ahead_is_saved_and_sent_with_what_comes_after_it() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[fates(1), floors(7)]])
    lane._writer.put_down()
    assert [] == world.courier.waiting
    lane.write_batch([[fates(2), floors(8)]])
    state = lane.snapshot()

    assert state is not None
    saved = read_rows(state)
    assert [1, 2] == [run for batch in saved["fates"] for run in batch["run"].to_pylist()]
    assert 2 == sum(batch.num_rows for batch in saved["rollup_floors"])
    world.courier.go()
    assert ["rollup_floors", "rollup_floors", "fates", "fates"] == world.table.tables


def filled(kind: pa.DataType, group: type) -> Any:
    """Some value of a kind, with something in each of its parts."""
    if pa.types.is_list(kind):
        return [filled(kind.value_type, group)] * 2
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        told = {field.name: filled(field.type, group) for field in fields}
        return told if group is dict else tuple(told.values())
    if pa.types.is_fixed_size_binary(kind):
        return b"f" * kind.byte_width
    if pa.types.is_string(kind):
        return "word"
    return True if pa.types.is_boolean(kind) else 7


@pytest.mark.parametrize("group", [tuple, dict])
@pytest.mark.parametrize("table", sorted(TABLES))
def test_rows_with_something_in_every_column_are_saved_and_read_again(
    table: str, group: type
) -> None:
    """Facts tell their hops as tuples, decisions their alternatives by name."""
    schema = TABLES[table].schema
    columns = {field.name: [filled(field.type, group)] * 3 for field in schema}
    rows = Rows(table, 3, columns)
    wanted = to_batch(rows, TABLES[table])

    [found] = read_rows(dump_rows({table: [Part(TABLES[table], [], rows)]}))[table]

    assert wanted.equals(found)


def test_rows_that_come_after_what_was_put_down_and_go_at_once_are_saved_too() -> None:
    world = World()
    lane = world.lane()
    lane.write_batch([[floors(7)]])
    lane._writer.put_down()
    lane.write_batch([[fates(*range(start, start + 500))] for start in range(0, 6_000, 500)])
    state = lane.snapshot()

    assert state is not None
    saved = read_rows(state)
    left = {run for batch in saved["fates"] for run in batch["run"].to_pylist()}
    assert left
    assert {*range(6_000)} == left | {*world.table.runs}
    assert 1 == sum(batch.num_rows for batch in saved["rollup_floors"])


class _Told:
    def __init__(self, submit: Callable[[Callable[[], None]], Future[None]]) -> None:
        self.submit = submit


def test_a_thread_carries_out_in_order_and_tells_what_failed() -> None:
    courier = ThreadCourier()
    done: list[int] = []
    told = [courier.submit(lambda n=n: done.append(n)) for n in range(3)]  # type: ignore[misc]
    failed = courier.submit([].pop)
    after = courier.submit(lambda: done.append(3))

    assert [None] * 3 == [one.result(10) for one in told]
    assert isinstance(failed.exception(10), IndexError)
    after.result(10)
    assert [0, 1, 2, 3] == done


def test_nothing_is_sent_after_an_insert_that_failed() -> None:
    """Else the books of an epoch would name rows that are not there."""
    world = World()
    lane = world.lane()
    world.table.away = True
    lane.write_batch([[floors(1), fates(1)]])
    lane.snapshot()
    act, told = world.courier.waiting.pop(0)
    with pytest.raises(TransientError) as failed:
        act()
    told.set_exception(failed.value)
    world.table.away = False
    world.courier.go()

    assert [] == world.table.tables
    with pytest.raises(TransientError):
        lane.snapshot()


@pytest.mark.parametrize("table", sorted(TABLES))
def test_saved_rows_of_a_release_with_fewer_columns_get_what_is_new_empty(table: str) -> None:
    schema = TABLES[table].schema
    old = pa.schema([schema.field(0)])
    batch = pa.RecordBatch.from_arrays([pa.nulls(2, schema.field(0).type)], schema=old)
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, old) as stream:
        stream.write_batch(batch)
    rows = {table: out.getvalue().to_pybytes()}

    read = read_rows(msgspec.msgpack.encode({"version": 1, "rows": rows}))

    [found] = read[table]
    assert schema == found.schema
    assert 2 == found.num_rows
    assert all(column.null_count == 0 for column in found.columns[1:])
