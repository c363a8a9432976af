"""A small world for reconciliation: two lanes, an hour that is closed, and now."""

from __future__ import annotations

from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.clickhouse.writer import TableWriter
from flows.journey.make import rules_of
from flows.places import MIGRATIONS
from flows.reconcile.findings import Report
from flows.reconcile.job import Bounds, ClickHouseStore, Wish, reconcile
from flows.steps.gate import LaneGate
from flows.verify import CELLS_SQL
from schemas.blocks import Outputs
from schemas.rollup import MINUTE_MS, bucket_of
from tests.messages import (
    HOUR_MS,
    NOW_MS,
    Bench,
    Message,
    block,
    delivered,
    payment,
    settings,
    with_body,
    with_header,
)

DAY_S = 86_400
LANES = 2
OLD_MS = NOW_MS - 30 * HOUR_MS
OLD_S = OLD_MS // MINUTE_MS * 60
BOUNDS = Bounds(
    lanes=LANES,
    lateness_s_max=86_400,
    skew_s_max=300,
    retention_s=7 * DAY_S,
    journeys=rules_of(settings()),
)
REPAIR = Wish(repair=True)


def old(number: int, **more: Any) -> Message:
    """A delivery of an hour that gets closed, recorded a little later than it happened."""
    return delivered(number, at_ms=OLD_MS, **more)._replace(recorded_ms=OLD_MS + 7 * number)


def old_payment(number: int, **more: Any) -> Message:
    return payment(number, at_ms=OLD_MS, **more)._replace(recorded_ms=OLD_MS + 900)


class Saved(NamedTuple):
    """Lanes as an epoch saved them: their states, and the next offsets."""

    states: list[bytes]
    next: dict[tuple[str, int], int]


class Worker:
    """Gates of all lanes, writing to ClickHouse at the end of each block, as an epoch does."""

    def __init__(self, client: Client) -> None:
        self._writer = TableWriter(client)
        self._benches = [Bench() for _ in range(LANES)]
        self._next: dict[tuple[str, int], int] = {}

    def gate(self, lane: int) -> LaneGate:
        return self._benches[lane].gate

    def take(self, *messages: Message, part: int = 0) -> Outputs:
        lane = part % LANES
        place = (messages[0].topic, part)
        raw = block(messages, first=self._next.get(place, 0), partition=part)
        self._next[place] = self._next.get(place, 0) + len(messages)
        raw.lane = lane
        outputs = self.gate(lane).pass_block(self._benches[lane].checker.check(raw))
        for rows in outputs.rows:
            self._writer.add(rows)
        self._writer.flush()
        self.gate(lane).dump()
        return outputs

    def saved(self) -> Saved:
        """What a crash after this leaves of the lanes."""
        return Saved([bench.gate.dump() for bench in self._benches], dict(self._next))

    def killed(self, saved: Saved) -> None:
        """Begin again where that was saved; what was written since stays in the tables."""
        self._benches = [Bench() for _ in range(LANES)]
        for bench, state in zip(self._benches, saved.states, strict=True):
            bench.gate.load(state)
        self._next = dict(saved.next)

    def close_the_past(self) -> None:
        """Bring both lanes to now, and let the floors be told."""
        for part in range(LANES):
            for number in (901, 902):
                name = f"evt-now-{part}-{number}"
                self.take(with_header(delivered(number), "ce_id", name.encode()), part=part)
                paid = with_header(payment(number), "ce_id", f"{name}-p".encode())
                self.take(paid, part=part)
            again = with_header(delivered(903), "ce_id", f"evt-now-{part}".encode())
            self.take(again, part=part)


def busy_worker(client: Client) -> Worker:
    """Some traffic of a closed hour on two lanes, and some of now."""
    working = Worker(client)
    working.take(*(old(number) for number in range(1, 6)))
    working.take(*(old_payment(number) for number in range(11, 14)))
    working.take(with_body(old(21), campaign="autumn"), old(22), part=1)
    working.close_the_past()
    return working


def run(client: Client, wish: Wish = REPAIR, **more: Any) -> Report:
    store = ClickHouseStore(client, retry_s_max=10.0)
    bounds = more.pop("bounds", BOUNDS)
    return reconcile(store, wish, bounds, now_ms=more.pop("now_ms", NOW_MS), **more)


def facts_as_cells(client: Client) -> dict[Any, Any]:
    """The rollup that the facts make, counted here and not in SQL."""
    found: dict[Any, Any] = {}
    query = """SELECT toUnixTimestamp64Milli(event_time), event_type, campaign, channel, class,
    currency, arm, amount_minor, toUnixTimestamp64Milli(recorded_at) FROM facts FINAL"""
    for at_ms, *words, amount, recorded_ms in client.query(query).result_rows:
        cell = found.setdefault((at_ms // MINUTE_MS, *words), [0, 0, [0] * 32])
        cell[0] += 1
        cell[1] += amount
        cell[2][bucket_of(recorded_ms - at_ms)] += 1
    return found


def cells_as_read(client: Client) -> dict[Any, Any]:
    return {
        tuple(row[:7]): [row[7], row[8], list(row[9])]
        for row in client.query(CELLS_SQL).result_rows
    }


def damage(client: Client, changes: str, where: str) -> None:
    """Write old rows of one kind again with other values and a version that wins."""
    client.command(
        f"INSERT INTO rollup_1m_lanes SELECT * REPLACE ({changes}, ver + 1 AS ver)"
        f" FROM (SELECT * FROM rollup_1m_lanes FINAL WHERE {where})"
    )


PAYMENTS = f"event_type LIKE '%payment%' AND w < toDateTime({OLD_S + 60})"
DELIVERIES = f"event_type LIKE '%delivered%' AND campaign = 'spring' AND lane = 0 AND w = {OLD_S}"


def told(report: Report) -> list[tuple[Any, ...]]:
    return [
        (cell.minute_s, cell.lane, cell.what, cell.facts_n, cell.rollup_n, cell.state)
        for cell in report.cell_findings
    ]


def open_tables(address: ClickHouseAddress) -> Client:
    """A client of a migrated database."""
    opened = connect(address, create_database=True, tries=2)
    apply_migrations(opened, read_migrations(MIGRATIONS))
    return opened
