"""Take one protection away inside the target, so that a checker can be seen to fail.

Only `tests/chaos/site` loads this, in a process whose environment names what to break.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.clickhouse.sink import TablePartition
from connectors.kafka.transactions import TransactionalPartition
from flows.follow import FollowLogic
from flows.ingest import GateLogic
from flows.journey.make import JOURNEY_STEP
from flows.steps.gate import LaneGate
from flows.steps.publish import Publisher
from flows.steps.roll_up import Rollup
from schemas.blocks import OutRecord

VARIABLE: Final = "TEST_AIRSIDE_SABOTAGE"
HANG_S: Final = 12.0
LATE_FROM_S: Final = 8.0
BLOAT_BYTES: Final = 24 * 2**20


def no_watermark() -> None:
    """Publish again what was committed before."""
    original = TransactionalPartition._new

    def always(self: TransactionalPartition, records: list[OutRecord]) -> list[OutRecord]:
        original(self, records)
        for record in records:
            place = (record.origin.topic, record.origin.partition)
            self._reach[place] = max(self._reach.get(place, 0), record.origin.offset + 1)
        return records

    _put(TransactionalPartition, "_new", always)


def drop_records() -> None:
    """Lose every hundredth record."""
    counted = iter(range(10**9))
    original = TransactionalPartition._produce

    def produce(self: TransactionalPartition, records: list[OutRecord]) -> None:
        original(self, [record for record in records if next(counted) % 100 != 99])

    _put(TransactionalPartition, "_produce", produce)


def swap_records() -> None:
    """Publish the records of a block backwards."""
    original = TransactionalPartition.write_batch

    def write(self: TransactionalPartition, items: list[list[OutRecord]]) -> None:
        original(self, [list(reversed(records)) for records in items])

    _put(TransactionalPartition, "write_batch", write)


def late_flush() -> None:
    """Call an epoch durable before its rows are: most go out much later.

    It begins a while after the installation's first start, when the profiles are in.
    """
    mark = Path(os.environ["AIRSIDE_DATA"], "sabotage-late_flush")
    if not mark.exists():
        mark.touch()
    original = TablePartition.snapshot
    counted = iter(range(10**9))

    def snapshot(self: TablePartition) -> None:
        early = time.time() - mark.stat().st_mtime < LATE_FROM_S
        if early or next(counted) % 40 == 39:
            original(self)

    _put(TablePartition, "snapshot", snapshot)


def forget_state() -> None:
    """Start each time as if the lane had no state: what it sums up begins at nothing."""
    original = GateLogic.__init__

    def init(self: GateLogic, gate: Any, _resume: bytes | None, *more: Any) -> None:
        original(self, gate, None, *more)

    _put(GateLogic, "__init__", init)


def forget_journeys() -> None:
    """Start each time as if no lane had followed a journey."""
    original = FollowLogic.__init__

    def init(
        self: FollowLogic, follower: Any, resume: bytes | None, step: str, **more: Any
    ) -> None:
        original(self, follower, None if step == JOURNEY_STEP else resume, step, **more)

    _put(FollowLogic, "__init__", init)


def redecide() -> None:
    """Tell of each decision a propensity that only chance knows."""
    from flows.timing.record import Writer  # noqa: PLC0415 - seconds, in flows that decide

    original = Writer.body

    def body(self: Writer, draw: Any) -> dict[str, Any]:
        return {**original(self, draw), "propensity": random.random()}

    _put(Writer, "body", body)


def deltas() -> None:
    """Write what a block adds to a cell instead of the cell's whole value."""
    original = Rollup.rows
    known: dict[tuple[int, int], int] = {}

    def rows(self: Rollup, codes: Any, *, lane: int, generation: int = 0) -> Any:
        made = original(self, codes, lane=lane, generation=generation)
        for at, code in enumerate(codes.tolist()):
            whole = int(made.columns["n"][at])
            made.columns["n"][at] = whole - known.get((lane, code), 0)
            known[lane, code] = whole
        return made

    _put(Rollup, "rows", rows)


def leak_body() -> None:
    """Put the body of a refused message into its notice."""
    original = Publisher.refused

    def refused(self: Publisher, message: Any, raw: Any, place: int, *, discard: bool) -> Any:
        record = original(self, message, raw, place, discard=discard)
        if record is not None:
            record.headers.append(("x-body", raw.values[place]))
        return record

    _put(Publisher, "refused", refused)


def leave_open() -> None:
    """End with a transaction that is neither committed nor aborted."""

    def close(self: TransactionalPartition) -> None:
        self._begin()
        self._producer.produce("ntf.routed.open.v1", value=b"{}")
        self._producer.flush(10)
        self._watermark.close()

    _put(TransactionalPartition, "close", close)


def silent_exit() -> None:
    """End with a code and without a word, once, in the middle of the work."""
    counted = iter(range(10**9))
    original = TablePartition.write_batch

    def write(self: TablePartition, items: Any) -> None:
        if next(counted) > 8 and _is_first("silent_exit"):
            os._exit(70)
        original(self, items)

    _put(TablePartition, "write_batch", write)


def hang() -> None:
    """Wait for long, once, in the middle of the work."""
    counted = iter(range(10**9))
    original = TablePartition.write_batch

    def write(self: TablePartition, items: Any) -> None:
        if next(counted) > 12 and _is_first("hang"):
            time.sleep(HANG_S)
        original(self, items)

    _put(TablePartition, "write_batch", write)


def _is_first(name: str) -> bool:
    """Whether no process of this installation did it yet."""
    try:
        Path(os.environ["AIRSIDE_DATA"], f"sabotage-{name}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def orphan() -> None:
    """Leave a process behind."""
    if "flows" in " ".join(sys.orig_argv):
        _leave_behind()


def _leave_behind(pass_fds: Sequence[int] = ()) -> None:
    bare = {name: text for name, text in os.environ.items() if name != VARIABLE}
    subprocess.Popen(
        ["/bin/sleep", "600"],
        env=bare,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=pass_fds,
    )


def no_lock() -> None:
    """Let two instances have one recovery store."""
    _put(fcntl, "flock", lambda *_args: None)


def empty_table() -> None:
    """Hold no profile that is read again at a start."""
    original = LaneGate._hold_profile

    def hold(self: LaneGate, block: Any, place: int, refusal: Any, *, again: bool) -> None:
        if not again:
            original(self, block, place, refusal, again=again)

    _put(LaneGate, "_hold_profile", hold)


def bloat() -> None:
    """Keep much more in a snapshot than there is state."""
    original = GateLogic.snapshot

    def snapshot(self: GateLogic) -> bytes:
        state = msgspec.msgpack.decode(original(self))
        return msgspec.msgpack.encode({**state, "nothing": bytes(BLOAT_BYTES)})

    _put(GateLogic, "snapshot", snapshot)


def held_lock() -> None:
    """Leave a process behind that has our locks open."""
    original = fcntl.flock

    def flock(fd: Any, operation: int) -> None:
        original(fd, operation)
        number = fd if isinstance(fd, int) else fd.fileno()
        _leave_behind(pass_fds=(number,))

    _put(fcntl, "flock", flock)


def hoard() -> None:
    """Keep memory that nobody needs."""
    kept: list[bytes] = []
    original = TablePartition.write_batch

    def write(self: TablePartition, items: Any) -> None:
        if len(kept) < 20:
            kept.append(b"x" * (64 * 2**20))
        original(self, items)

    _put(TablePartition, "write_batch", write)


def _put(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


ALL: Final[dict[str, Callable[[], None]]] = {
    act.__name__: act
    for act in (
        no_watermark,
        drop_records,
        swap_records,
        late_flush,
        forget_state,
        forget_journeys,
        redecide,
        deltas,
        leak_body,
        leave_open,
        silent_exit,
        hang,
        orphan,
        no_lock,
        empty_table,
        bloat,
        held_lock,
        hoard,
    )
}


def carry_out(text: str) -> None:
    """Break what is named, several joined by commas."""
    for name in text.split(","):
        ALL[name]()
