"""A world's journeys in memory: through gates and followers, and what they should have become."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from flows.follow import Follower
from flows.ingest import make_checker, make_gate, read_policy
from flows.journey.make import make_step
from flows.simulate import World
from flows.simulate.expected import (
    Expected,
    Happening,
    OutcomeLine,
    expect,
    expect_outcomes,
    outcome_told,
    row_told,
)
from schemas.blocks import Followed, OutRecord, RawBlock, Rows
from tests.unit.flows.memory_run import LANES, MemoryRun, make_settings


class Table:
    """A table as ClickHouse keeps it: of the rows with one key, that with the greatest version."""

    def __init__(self, *key: str) -> None:
        self._key = key
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def insert(self, rows: Rows) -> None:
        for values in zip(*rows.columns.values(), strict=True):
            row = dict(zip(rows.columns, values, strict=True))
            key = tuple(row[name] for name in self._key)
            old = self.rows.get(key)
            if old is None or row["ver"] >= old["ver"]:
                self.rows[key] = row


class JourneyRun(MemoryRun):
    """A world through the gate and the journey followers of all lanes.

    `kill_every` blocks, each lane goes back to its last snapshot, taken half as often, and gets
    the blocks since then once more.
    """

    def __init__(self, world: World, **more: Any) -> None:
        super().__init__(world, settings=make_settings(**more))
        self.journeys = Table("journey")
        self.outcomes = Table("outcome_id", "model", "slot")
        self.exceptions = Table("journey", "rule", "at")
        self.records: dict[Any, OutRecord] = {}
        self.reached_ms: dict[int, int] = {}
        self.followers = [self.make() for _ in range(LANES)]

    def make(self) -> Follower:
        return make_step(self.settings).make()

    def follow(self, blocks: Iterable[RawBlock], *, kill_every: int = 0) -> None:
        policy = read_policy(self.settings)
        checker = make_checker(self.settings, policy)
        gates = [make_gate(self.settings, policy, followed=True) for _ in range(LANES)]
        since: dict[int, list[Any]] = defaultdict(list)
        saved = [follower.dump() for follower in self.followers]
        for number, block in enumerate(blocks, 1):
            lane = block.lane
            outputs = gates[lane].pass_block(checker.check(block))
            self._keep(outputs)
            accepted = outputs.accepted
            if accepted is None:
                continue
            self.reached_ms[lane] = accepted.watermark_ms
            self._keep_followed(self.followers[lane].follow(accepted))
            since[lane].append(accepted)
            if kill_every and not number % kill_every:
                for dead, blocks_again in since.items():
                    self.followers[dead] = self.make()
                    self.followers[dead].load(saved[dead])
                    for again in blocks_again:
                        self._keep_followed(self.followers[dead].follow(again))
                    saved[dead] = self.followers[dead].dump()
                since.clear()

    def _keep_followed(self, followed: Followed) -> None:
        for rows in followed.rows:
            self.table_of(rows.table).insert(rows)
        for record in followed.records:
            assert record == self.records.setdefault(record.origin, record)

    def table_of(self, name: str) -> Table:
        return {
            "journeys": self.journeys,
            "outcomes": self.outcomes,
            "process_exceptions": self.exceptions,
        }[name]

    def found(self) -> dict[str, Expected]:
        return {row["journey"]: row_told(row) for row in self.journeys.rows.values()}

    def found_outcomes(self) -> Counter[OutcomeLine]:
        return Counter(outcome_told(row) for row in self.outcomes.rows.values())

    def wanted_outcomes(self) -> Counter[OutcomeLine]:
        people: dict[str, list[Happening]] = defaultdict(list)
        for found in self.happenings().values():
            for happening in found:
                people[happening.subject].append(happening)
        window_ms = int(self.settings.journey.window_s * 1_000)
        lines: Counter[OutcomeLine] = Counter()
        for happenings in people.values():
            lines.update(expect_outcomes(happenings, window_ms))
        return lines

    def happenings(self) -> dict[str, list[Happening]]:
        """What truly happened, by journey."""
        return self.truth.journeys

    def wanted(self) -> dict[str, Expected]:
        return {journey: expect(found) for journey, found in self.happenings().items()}
