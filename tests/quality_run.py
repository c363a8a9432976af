"""A world's quality in memory: through gates and followers, and what truly was wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from flows.follow import Follower
from flows.ingest import STREAMS, make_checker, make_gate, read_policy
from flows.quality.follow import QualityFollower, QualityRules
from flows.quality.make import make_quality_step
from flows.simulate import World
from flows.simulate.events import Message
from schemas.blocks import Followed, OutRecord, RawBlock
from schemas.quality import load_quality
from tests.journeys_run import Table
from tests.unit.flows.memory_run import LANES, MemoryRun, make_settings

Counts = Counter[tuple[str, str, str]]
"""By topic, producer and rule."""


class QualityRun(MemoryRun):
    """A world through the gate and the quality followers of all lanes.

    `kill_every` blocks, each lane goes back to its last snapshot, taken half as often, and gets
    the blocks since then once more.
    """

    def __init__(self, world: World, **more: Any) -> None:
        super().__init__(world, settings=make_settings(**more))
        self.quality = Table("w", "dataset", "producer", "rule", "lane")
        self.anomalies = Table("w", "dataset", "producer", "kind", "lane")
        self.edges = Table("from_node", "to_node", "lane")
        self.records: dict[Any, OutRecord] = {}
        self.followers = [self.make() for _ in range(LANES)]

    def make(self) -> Follower:
        return make_quality_step(self.settings).make()

    def follow(self, blocks: Iterable[RawBlock], *, kill_every: int = 0) -> None:
        policy = read_policy(self.settings)
        checker = make_checker(self.settings, policy)
        gates = [make_gate(self.settings, policy, followed=True) for _ in range(LANES)]
        since: dict[int, list[Any]] = defaultdict(list)
        saved = [follower.dump() for follower in self.followers]
        for number, block in enumerate(blocks, 1):
            lane = block.lane
            outputs = gates[lane].pass_block(checker.check(block))
            told = outputs.accepted or outputs.only_refused
            if told is None:
                continue
            self._keep_followed(self.followers[lane].follow(told))
            since[lane].append(told)
            if kill_every and not number % kill_every:
                for dead, blocks_again in since.items():
                    self.followers[dead] = self.make()
                    self.followers[dead].load(saved[dead])
                    for again in blocks_again:
                        self._keep_followed(self.followers[dead].follow(again))
                    saved[dead] = self.followers[dead].dump()
                since.clear()

    def _keep_followed(self, followed: Followed) -> None:
        tables = {
            "quality": self.quality,
            "anomalies": self.anomalies,
            "lineage_edges": self.edges,
        }
        for rows in followed.rows:
            tables[rows.table].insert(rows)
        for record in followed.records:
            assert record == self.records.setdefault(record.origin, record)

    def found(self, column: str) -> Counts:
        """The sums of a column over all minutes and lanes; what is 0 is left out."""
        sums: Counts = Counter()
        for row in self.quality.rows.values():
            sums[row["dataset"], row["producer"], row["rule"]] += row[column]
        return +sums

    def messages(self) -> list[tuple[str, str, Message]]:
        """Topic, producer and message of all that was sent to the streams."""
        return [
            (message.topic, producer_of(message), message)
            for message, _, _ in self.sent
            if message.topic in STREAMS
        ]


class StrictRun(QualityRun):
    """The same with rules that judge each minute, however few messages it has."""

    def make(self) -> Follower:
        quality = load_quality()
        rules = tuple(rule.model_copy(update={"least": 1}) for rule in quality.rules)
        strict = quality.model_copy(update={"rules": rules})
        return QualityFollower(strict, QualityRules(lateness_ms=86_400_000))


def producer_of(message: Message) -> str:
    """The producer as far as it can be read: one header of UTF-8."""
    values = [value for name, value in message.headers if name == "ce_source"]
    try:
        return values[0].decode() if len(values) == 1 and values[0] else "(unknown)"
    except UnicodeDecodeError:
        return "(unknown)"
