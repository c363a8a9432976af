"""A whole world through the checking step and the gates, in memory, without Kafka or ClickHouse."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, Final

import pyarrow as pa

from flows.ingest import STREAMS, TABLES, make_checker, make_gate, read_policy
from flows.settings import Settings
from flows.simulate.copies import Copy, copy_of
from flows.simulate.events import Message
from flows.simulate.truth import Truth
from flows.simulate.world import World
from flows.verify import CELLS_SQL, FACTS_SQL, FATES_SQL, REFUSED_SQL
from schemas.blocks import Outputs, RawBlock, Rows

END_MS: Final = 1_790_000_000_000
PARTITIONS: Final = 12
LANES: Final = 4

_PROFILES: Final = tuple((topic, number) for topic in TABLES for number in range(PARTITIONS))

Placed = tuple[Message, int, int]


class FakeTables:
    """Tables as ClickHouse keeps them: of rows with the same key, the greatest version stays."""

    KEYS: Final = {
        "facts": ("event_type", "hour", "source", "event_id"),
        "quarantine": ("topic", "part", "off"),
        "rollup_1m_lanes": (
            "w",
            "event_type",
            "campaign",
            "channel",
            "class",
            "currency",
            "lane",
            "arm",
            "late",
        ),
        "fates": ("topic", "part", "run", "door", "code", "source", "lane"),
        "rollup_floors": ("lane",),
    }

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = defaultdict(dict)

    def insert(self, rows: Rows) -> None:
        columns = [list(column) for column in rows.columns.values()]
        for values in zip(*columns, strict=True):
            row = dict(zip(rows.columns, values, strict=True))
            if rows.table == "facts":
                row["hour"] = row["event_time"] // 3_600_000
            key = tuple(row[name] for name in self.KEYS[rows.table])
            old = self.rows[rows.table].get(key)
            if old is None or row["ver"] >= old["ver"]:
                self.rows[rows.table][key] = row

    def table(self, name: str) -> list[dict[str, Any]]:
        return list(self.rows[name].values())

    def query_arrow(self, query: str, *, use_strings: bool) -> Any:
        assert use_strings
        lines = {
            FATES_SQL: self._fates,
            REFUSED_SQL: self._refused,
            FACTS_SQL: self._facts,
            CELLS_SQL: self._cells,
        }[query]()
        columns = list(zip(*lines, strict=True)) if lines else []
        arrays = [pa.array(list(column)) for column in columns]
        return pa.table(arrays, names=[f"c{number}" for number in range(len(columns))])

    def _fates(self) -> list[tuple[Any, ...]]:
        names = ("topic", "part", "run", "door", "code")
        sums: Counter[tuple[Any, ...]] = Counter()
        for row in self.table("fates"):
            sums[tuple(row[name] for name in names)] += row["n"]
        return [(*key, count) for key, count in sums.items()]

    def _refused(self) -> list[tuple[Any, ...]]:
        names = ("topic", "part", "off", "door", "code", "event_id")
        return [tuple(row[name] for name in names) for row in self.table("quarantine")]

    def _facts(self) -> list[tuple[Any, ...]]:
        columns = FACTS_SQL.removeprefix("SELECT ").removesuffix(" FROM facts FINAL")
        names = [
            name.strip().removeprefix("toUnixTimestamp64Milli(").removesuffix(")")
            for name in columns.split(",")
        ]
        return [
            tuple(list(row[name]) if isinstance(row[name], tuple) else row[name] for name in names)
            for row in self.table("facts")
        ]

    def _cells(self) -> list[tuple[Any, ...]]:
        names = ("event_type", "campaign", "channel", "class", "currency", "arm")
        sums: dict[tuple[Any, ...], list[Any]] = {}
        for row in self.table("rollup_1m_lanes"):
            key = (int(row["w"]) // 60_000, *(row[name] for name in names))
            cell = sums.setdefault(key, [0, 0, [0] * 32])
            cell[0] += int(row["n"])
            cell[1] += int(row["amount_minor"])
            pairs = zip(cell[2], row["latency_hist"], strict=True)
            cell[2] = [old + int(new) for old, new in pairs]
        return [(*key, *cell) for key, cell in sums.items()]


class MemoryRun:
    """What a world led to: its truth, the tables, the records that were published."""

    def __init__(self, world: World, *, settings: Settings | None = None) -> None:
        self.settings = settings or make_settings()
        self.truth = Truth()
        self.tables = FakeTables()
        self.copies: list[Copy] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.sent: list[Placed] = []
        self._received_ms = world.end_ms + 2_000
        self._place(world)

    def _place(self, world: World) -> None:
        ends: Counter[tuple[str, int]] = Counter()
        for message in world:
            key = message.key if message.key is not None else str(message.number).encode()
            partition = zlib.crc32(key) % PARTITIONS
            offset = ends[message.topic, partition]
            ends[message.topic, partition] += 1
            self.sent.append((message, partition, offset))
            self.truth.note(
                message, partition=partition, offset=offset, recorded_ms=message.timestamp_ms
            )

    def pass_through(self, blocks: Iterable[RawBlock]) -> None:
        """Check and decide blocks, and keep what comes out."""
        policy = read_policy(self.settings)
        checker = make_checker(self.settings, policy)
        gates = [make_gate(self.settings, policy) for _ in range(LANES)]
        for block in blocks:
            self._keep(gates[block.lane].pass_block(checker.check(block)))

    def _keep(self, outputs: Outputs) -> None:
        for rows in outputs.rows:
            self.tables.insert(rows)
        for record in outputs.records:
            self.copies.append(copy_of(record.topic, record.key, record.value, record.headers))
        for (door, code), count in outputs.counts.items():
            self.counts[door.value, code] += count

    def as_read(self, rng: Random, *, messages_max: int = 400) -> Iterator[RawBlock]:
        """Blocks as lanes read them: runs of what was published, sorted by topic.

        As in a lane, no time passes before every stream of it was read once.
        """
        unread: dict[int, set[tuple[str, int]]] = {}
        for message, partition, _ in self.sent:
            if message.topic in STREAMS:
                unread.setdefault(partition % LANES, set()).add((message.topic, partition))
        at = 0
        while at < len(self.sent):
            size = rng.randrange(1, messages_max)
            run = self.sent[at : at + size]
            for message, partition, _ in run:
                unread.get(partition % LANES, set()).discard((message.topic, partition))
            for block in to_blocks(run, self._received_ms):
                block.unread = bool(unread.get(block.lane))
                yield block
            at += size

    def topic_by_topic(self, topics: Sequence[str]) -> Iterator[RawBlock]:
        """Blocks as the worst reader reads them: each topic whole before the next one begins."""
        for topic in (*TABLES, *topics):
            placed = [placed for placed in self.sent if placed[0].topic == topic]
            for at in range(0, len(placed), 50):
                yield from to_blocks(placed[at : at + 50], self._received_ms)


def make_settings(**time: float) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "localhost:1"},
            "clickhouse": {"url": "http://localhost:1"},
            "time": time,
        }
    )


def to_blocks(sent: Sequence[Placed], received_ms: int) -> Iterator[RawBlock]:
    groups: dict[tuple[int, str], list[Placed]] = {}
    for placed in sent:
        groups.setdefault((placed[1] % LANES, placed[0].topic), []).append(placed)
    for topic in (*TABLES, *STREAMS):
        for lane in range(LANES):
            if (lane, topic) in groups:
                yield _block(lane, topic, groups[lane, topic], received_ms)


def _block(lane: int, topic: str, placed: Sequence[Placed], received_ms: int) -> RawBlock:
    return RawBlock(
        lane=lane,
        topic=topic,
        received_ms=received_ms,
        partitions=[partition for _, partition, _ in placed],
        offsets=[offset for _, _, offset in placed],
        timestamps=[message.timestamp_ms for message, _, _ in placed],
        keys=[message.key for message, _, _ in placed],
        headers=[message.headers for message, _, _ in placed],
        values=[message.value for message, _, _ in placed],
        # Profiles are read to their end before the first stream, and hold nothing back then.
        quiet=_PROFILES if topic in STREAMS else (),
    )
