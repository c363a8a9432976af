"""What a lane gives again after a restart, before it goes on: tables, and the epoch in doubt."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog

from connectors.kafka.columns import to_block, to_blocks
from connectors.kafka.lane_state import Place, offset_gone
from connectors.kafka.order import Given, Run
from schemas.blocks import RawBlock
from schemas.errors import PermanentError

_log = structlog.get_logger(__name__)

_STUCK_S_MAX: Final = 15.0


class Resumption:
    """Sorts what the consumer hands out: table rows of before, blocks to repeat, and the rest.

    First the tables, from their beginning to the offsets in `table_ends` and not further, so that
    they are as they were; then the pending blocks, each when all of its messages are there.
    `held` is what was read beyond that, in order, for the lane to go on with.
    State: at most what the consumer hands out until the last pending message.
    Errors: PermanentError when a pending message is gone for good.
    """

    def __init__(
        self,
        *,
        lane: int,
        order: tuple[str, ...],
        table_ends: Mapping[Place, int],
        pending: deque[Given],
        now_s: float,
    ) -> None:
        self._lane = lane
        self._order = order
        self._left = {place: end for place, end in table_ends.items() if end > 0}
        self._pending = pending
        self._ends: dict[Place, int] = {}
        self._moved_s = now_s
        self._passed: dict[Place, int] = {}
        self.held: dict[Place, deque[Any]] = {}

    @property
    def loads_tables(self) -> bool:
        """Whether some table is not yet what it was."""
        return bool(self._left)

    @property
    def is_done(self) -> bool:
        """Whether everything was given again."""
        return not self._left and not self._pending

    @property
    def wanted(self) -> dict[Place, int]:
        """The last offset that is still needed, by place."""
        wanted: dict[Place, int] = {}
        for given in self._pending:
            for run in given.runs:
                place = (given.topic, run.partition)
                wanted[place] = max(wanted.get(place, 0), run.last)
        return wanted

    def note_end(self, place: Place, offset: int) -> None:
        """Note that a partition has nothing more, up to this next offset."""
        self._ends[place] = offset
        if offset >= self._left.get(place, 0):
            self._left.pop(place, None)

    def wait(self, seconds: float) -> None:
        """Take time in which the lane did not read from the time in which nothing came."""
        self._moved_s += seconds

    def take(self, messages: list[Any], *, received_ms: int, now_s: float) -> list[RawBlock]:
        """Take what was read; gives table rows of before as blocks, the others are held."""
        again: list[Any] = []
        if messages:
            self._moved_s = now_s
        for message in messages:
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            end = self._left.get(place)
            if end is not None and offset < end:
                again.append(message)
            else:
                self.held.setdefault(place, deque()).append(message)
            if end is not None and offset >= end - 1:
                del self._left[place]
        if not again:
            return []
        # Nothing may be freed on the way: the lane had not come so far when it read these.
        return to_blocks(
            again,
            lane=self._lane,
            order=self._order,
            received_ms=received_ms,
            quiet=(),
            unread=True,
        )

    def repeat(self, now_s: float) -> RawBlock | None:
        """The next pending block, if all of its messages are there."""
        if self._left:
            if now_s - self._moved_s > _STUCK_S_MAX:
                self._refuse_if_shorter()
            return None
        if not self._pending:
            return None
        given = self._pending[0]
        if not all(self._is_there(given.topic, run) for run in given.runs):
            if now_s - self._moved_s > _STUCK_S_MAX:
                self._refuse_if_gone(given)
            return None
        self._pending.popleft()
        self._passed |= {(given.topic, run.partition): run.last + 1 for run in given.runs}
        self._moved_s = now_s
        messages = [message for run in given.runs for message in self._pull(given.topic, run)]
        if len(messages) != sum(run.size for run in given.runs):
            _log.warning("repeated_block_has_gaps", lane=self._lane, topic=given.topic)
        if not messages:
            return None
        return to_block(
            messages,
            lane=self._lane,
            topic=given.topic,
            received_ms=given.received_ms,
            quiet=given.quiet,
            unread=given.unread,
        )

    def take_passed(self) -> dict[Place, int]:
        """The next offsets behind what was repeated since the last call: some of it may be gone."""
        passed, self._passed = self._passed, {}
        return passed

    def _is_there(self, topic: str, run: Run) -> bool:
        held = self.held.get((topic, run.partition))
        if held and (held[-1].offset() or 0) >= run.last:
            return True
        return self._ends.get((topic, run.partition), 0) > run.last

    def _pull(self, topic: str, run: Run) -> Iterable[Any]:
        held = self.held.get((topic, run.partition), deque())
        while held and (held[0].offset() or 0) <= run.last:
            yield held.popleft()

    def _refuse_if_shorter(self) -> None:
        """A table that ends before the offset to which it was read is not the table it was."""
        for place, end in self._left.items():
            if self._ends.get(place, end) < end:
                raise offset_gone(place, end)

    def _refuse_if_gone(self, given: Given) -> None:
        for run in given.runs:
            place = (given.topic, run.partition)
            if place in self._ends and not self._is_there(given.topic, run):
                raise PermanentError(
                    do="read again",
                    kind="partition",
                    name=f"{given.topic}/{run.partition}",
                    where=f"at offset {run.first}",
                    found=f"its end at {self._ends[place]}",
                    expected="the messages of the epoch that was cut short",
                    hint="Kafka lost them: restore them, or start from an empty data folder",
                )
