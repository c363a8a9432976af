"""Measure how long metrics take on so many facts, in the embedded ClickHouse.

`python -m tests.measure.questions --facts 10000000`: a made-up year of journeys of eight events
each, their facts, and the minutes they fold into; then every metric of the catalog, in rounds.
Figures are of this machine, with whatever else runs on it, so the engine's own time is told, too:
a quiet machine of two cores needs between half of it and all of it. `--keep FOLDER` keeps the store
for another time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from clickhouse_connect import get_client
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.places import MIGRATIONS
from flows.query.ask import answer
from flows.query.compile import Query, Question, compile_question
from schemas.metrics import Catalog, Cumulative, load_catalog

EVENTS: Final = 8
DAYS: Final = 30
REPEATS: Final = 7
PART: Final = 100_000
SLOW_S: Final = 1_800

JOURNEYS: Final = """INSERT INTO journeys
SELECT
    concat('jrn-', toString(number)), concat('usr_', lower(hex(sipHash64(number % 400000)))),
    concat('ntf-', toString(number)),
    concat('campaign_', toString(number % 50)), concat('tenant_', toString(number % 3)),
    ['email', 'push', 'sms', 'in_app'][number % 4 + 1], ['', 'a', 'b', 'holdout'][number % 4 + 1],
    'marketing', 'GDPR,PII', 4, 'analysis', 60, ['open', 'completed'][number % 2 + 1],
    fromUnixTimestamp64Milli(
        toInt64(1000 * ({since:UInt32} + sipHash64(number) % {span:UInt32})), 'UTC') AS start,
    start + INTERVAL 1 HOUR, 8,
    ['request.created', 'journey.created', 'delivery.queued', 'delivery.attempted', 'delivery.sent',
        'delivery.delivered', if(number % 3 = 0, 'engagement.opened', 'engagement.seen'),
        if(number % 30 = 0, 'outcome.payment_received', 'engagement.dismissed')],
    arrayMap(n -> start + toIntervalSecond(n * 60), range(8)),
    3, 0, if(number % 30 = 0, 990, 0), 0, if(number % 30 = 0, 'EUR', ''),
    number % 3 = 0, number % 7 = 0, number % 6 = 0, number % 30 = 0, toDate32('2100-01-01'), 16
FROM numbers({first:UInt64}, {rows:UInt64})"""

FACTS: Final = """INSERT INTO facts
    (event_id, event_type, source, event_time, recorded_at, subject, journey, campaign, channel,
    arm, class, expires_at, topic, part, off, ver)
SELECT concat(journey, '-', act), concat('ntf.', act, '.v1'), '/sender', t, t, subject, journey,
    campaign, channel, arm, class, expires_at, 'ntf.delivery.v1', 0, 0, 0
FROM journeys ARRAY JOIN acts AS act, at AS t
WHERE sipHash64(journey) % {parts:UInt32} = {part:UInt32}"""

MINUTES: Final = """INSERT INTO rollup_1m_lanes
    (w, event_type, campaign, channel, arm, class, currency, lane, n, amount_minor, latency_hist,
    recorded_at, ver)
SELECT toStartOfMinute(event_time), event_type, campaign, channel, arm, class, '', 0, count(), 0,
    arrayMap(n -> 0, range(32)), max(event_time), count()
FROM facts WHERE toDate(event_time) = toDate({since:UInt32}) + {day:UInt32} GROUP BY ALL"""


def fill(client: Client, facts: int, since_s: int) -> None:
    """Bring the tables to so many facts, in parts that fit in memory."""
    journeys = facts // EVENTS
    span = {"since": since_s, "span": DAYS * 86_400}
    for first in range(0, journeys, PART):
        rows = min(PART, journeys - first)
        client.command(JOURNEYS, parameters={**span, "first": first, "rows": rows})
    parts = -(-journeys // PART)
    # No metric reads its table, and it would cost most of the time.
    client.command("DROP VIEW uniq_1h_of_facts")
    for part in range(parts):
        client.command(FACTS, parameters={"parts": parts, "part": part})
    for day in range(DAYS + 1):
        client.command(MINUTES, parameters={"since": since_s, "day": day})


class Asked(NamedTuple):
    """A question that is asked again and again, and how long it took each time.

    Units: milliseconds, of the clock and of the engine's processors.
    """

    name: str
    query: Query
    wall_ms: list[float]
    cpu_ms: list[float]

    def ask(self, client: Client, engine: Engine) -> None:
        """Ask once."""
        cpu_s, began_s = engine.cpu_s(), time.monotonic()
        answer(client, self.query)
        self.wall_ms.append(1_000 * (time.monotonic() - began_s))
        self.cpu_ms.append(1_000 * (engine.cpu_s() - cpu_s))

    def figures(self) -> dict[str, float]:
        """The figures that are told."""
        found = {
            "cpu_ms": min(self.cpu_ms),
            "best_ms": min(self.wall_ms),
            "median_ms": statistics.median(self.wall_ms),
            "worst_ms": max(self.wall_ms),
        }
        return {name: round(value, 1) for name, value in found.items()}


class Engine:
    """The processors' time of the embedded store: its process and that of its leash."""

    def __init__(self, pid: int) -> None:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._stats = [Path(f"/proc/{one}/stat") for one in (str(pid), *below)]

    def cpu_s(self) -> float:
        """Seconds so far."""
        ticks = 0
        for stat in self._stats:
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def questions(catalog: Catalog, since_s: int) -> list[Asked]:
    """Every metric over all the time there is, and some by campaign and by day."""
    until_s = since_s + (DAYS + 1) * 86_400

    def made(label: str, metric: str, **more: Any) -> Asked:
        grain = "day" if isinstance(catalog.by_name[metric], Cumulative) else ""
        asked: dict[str, Any] = {"grain": grain, "currency": "EUR", "costs": {"email": 0.5}, **more}
        question = Question((metric,), since_s - 86_400, until_s, **asked)
        return Asked(label, compile_question(catalog, question), [], [])

    found = [made(metric.name, metric.name) for metric in catalog.metrics]
    for name in ("open_rate", "revenue_per_1k", "events"):
        found.append(made(f"{name} by campaign", name, by=("campaign",)))
        found.append(made(f"{name} by day", name, grain="day"))
    found.append(made("open_rate by campaign, for a role", "open_rate", by=("campaign",), k=10))
    return found


def say(name: str, **figures: Any) -> None:
    sys.stdout.write(json.dumps({"figure": name, **figures}) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.questions", description=__doc__)
    parser.add_argument("--facts", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="folder of a store to fill, or filled before")
    parser.add_argument(
        "--merge", action="store_true", help="merge the tables' parts before asking"
    )
    options = parser.parse_args()
    catalog = load_catalog()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedClickHouse(data_dir=options.keep or Path(folder)) as store,
    ):
        connect(ClickHouseAddress(store.dsn, "airside"), create_database=True).close()
        client = get_client(dsn=store.dsn, database="airside", send_receive_timeout=SLOW_S)
        apply_migrations(client, read_migrations(MIGRATIONS))
        began_s = time.monotonic()
        # A month that ends now: what is older than its retention would be gone at once.
        since_s = int(time.time()) - (DAYS + 1) * 86_400
        if not client.query("SELECT count() FROM facts").result_rows[0][0]:
            fill(client, options.facts, since_s)
        counts = {
            table: client.query("SELECT count() FROM {t:Identifier}", {"t": table}).result_rows[0][
                0
            ]
            for table in ("facts", "journeys", "rollup_1m_lanes")
        }
        say("filled", seconds=round(time.monotonic() - began_s, 1), **counts)
        if options.merge:
            client.command("OPTIMIZE TABLE journeys FINAL")
            client.command("OPTIMIZE TABLE rollup_1m_lanes FINAL")
        asked = questions(catalog, since_s)
        engine = Engine(store.child.pid or 0)
        for _ in range(REPEATS):
            for one in asked:
                one.ask(client, engine)
        for one in asked:
            say(one.name, **one.figures())
        parts = "SELECT table, count() FROM system.parts WHERE active GROUP BY table"
        say("parts", **{str(line[0]): line[1] for line in client.query(parts).result_rows})
        say("load", **dict(zip(("1m", "5m", "15m"), os.getloadavg(), strict=True)))
        client.close()


if __name__ == "__main__":
    main()
