"""What each stage between the broker and the sinks costs: `python -m tests.bench.stages`.

In one process and without a broker: blocks of the corpus go through the checker, the gate and the
conversion to Arrow. A stage's time is this thread's CPU without the stages that it calls.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa

from connectors.clickhouse import gather
from connectors.clickhouse.held import Held
from connectors.clickhouse.writer import TableWriter, get_ready
from flows.garbage import tune_garbage_collection
from flows.ingest import make_checker, make_gate
from flows.steps import check, gate, judge
from flows.steps.check import BlockChecker
from flows.steps.deduplicate import Memory
from flows.steps.gate import LaneGate
from flows.steps.judge import Judge
from flows.steps.publish import Publisher
from flows.steps.roll_up import Rollup
from schemas.ticket_reader import TicketReader
from tests.bench.corpus import Corpus
from tests.bench.effort import START_MS, block_of
from tests.messages import policy, settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

BLOCK: Final = 5_000
EPOCH_BLOCKS: Final = 5
STAGES: Final[tuple[tuple[str, Any, str], ...]] = (
    ("tickets", TicketReader, "read_block"),
    ("checks by column: labels and times", BlockChecker, "_suspects"),
    ("checks by column: keys and sizes", BlockChecker, "_odd_contents"),
    ("bodies: decode", check, "_decode"),
    ("bodies: compare with tickets", check, "_compare_all"),
    ("gate: hashes", judge, "_hash_all"),
    ("gate: candidates", Judge, "candidates"),
    ("gate: suspects", Judge, "_suspects"),
    ("gate: remember", Judge, "_remember"),
    ("gate: profiles", LaneGate, "_look_up"),
    ("gate: columns of the accepted", gate, "accepted_events"),
    ("records: routed", Publisher, "routed"),
    ("records: refused", Publisher, "refused"),
    ("rows: facts", gate, "fact_rows"),
    ("rows: rollup", LaneGate, "_roll_up"),
    ("rows: rollup, counters", Rollup, "add"),
    ("rows: to Arrow", gather, "to_batch"),
    ("rows: one a cell", Held, "take"),
    ("snapshot: remembered events", Memory, "dump"),
    ("snapshot: the rest", LaneGate, "dump"),
)


class Nowhere:
    """A client that takes rows and sends them nowhere; it counts them."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    def insert_arrow(self, table: str, arrow_table: pa.Table, *_more: Any, **_names: Any) -> Any:
        self.rows[table] += arrow_table.num_rows


class Stopwatch:
    """CPU seconds by stage, each without what it calls."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, name: str, of: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(of)
        def call(*given: Any, **named: Any) -> Any:
            began_s = thread_time()
            self._inner.append(0.0)
            try:
                return of(*given, **named)
            finally:
                took_s = thread_time() - began_s
                self.spent[name] += took_s - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took_s

        return call

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the stages while this lasts."""
        before = [(owner, name, vars(owner)[name]) for _, owner, name in STAGES]
        for (label, owner, name), (*_, of) in zip(STAGES, before, strict=True):
            setattr(owner, name, self.timed(label, of))
        try:
            yield
        finally:
            for owner, name, of in before:
                setattr(owner, name, of)


def play(messages: int) -> tuple[dict[str, float], Counter[str]]:
    """CPU microseconds a message by stage, and the rows that were written by table."""
    samples = list(Corpus(messages, start_ms=START_MS).samples())
    whole = block_of(samples)
    checker, lane_gate = make_checker(settings(), policy()), make_gate(settings(), policy())
    nowhere, watch = Nowhere(), Stopwatch()
    tables = TableWriter(cast("Client", nowhere), rows_max=settings().clickhouse.rows_max)
    get_ready()
    checker.check(block_of(samples[:BLOCK]))
    tune_garbage_collection()
    with watch.watching():
        for number, first in enumerate(range(0, messages, BLOCK), start=1):
            raw = type(whole)(
                whole.lane,
                whole.topic,
                whole.received_ms,
                *(getattr(whole, name)[first : first + BLOCK] for name in COLUMNS),
            )
            for rows in lane_gate.pass_block(checker.check(raw)).rows:
                tables.add(rows)
            if number % EPOCH_BLOCKS == 0:
                tables.flush()
                lane_gate.dump()
        tables.flush()
    return {name: watch.spent[name] / messages * 1e6 for name, *_ in STAGES}, nowhere.rows


COLUMNS: Final = ("partitions", "offsets", "timestamps", "keys", "headers", "values")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    spent, rows = play(parser.parse_args().messages)
    for name, cost in spent.items():
        sys.stdout.write(f"{name:36} {cost:6.2f} us\n")
    sys.stdout.write(f"{'all of these':36} {sum(spent.values()):6.2f} us, rows {dict(rows)}\n")


if __name__ == "__main__":
    main()
