"""Measure how long metrics take on so many facts, in the embedded ClickHouse.

`python -m tests.measure.questions --facts 10000000`: a made-up year of journeys of eight events
each, their facts, and the minutes they fold into; then every metric of the catalog, five times
each, the middle one told. Figures are of this machine, with whatever else runs on it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.places import MIGRATIONS
from flows.query.ask import answer
from flows.query.compile import Question, compile_question
from schemas.metrics import Catalog, Cumulative, load_catalog

EVENTS: Final = 8
DAYS: Final = 30
REPEATS: Final = 5
PART: Final = 500_000

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
    parts = max(journeys // PART, 1)
    for part in range(parts):
        client.command(FACTS, parameters={"parts": parts, "part": part})
    for day in range(DAYS + 1):
        client.command(MINUTES, parameters={"since": since_s, "day": day})


def ask(client: Client, catalog: Catalog, name: str, since_s: int, **more: Any) -> dict[str, Any]:
    """The middle time of a metric, over all the time there is."""
    grain = "day" if isinstance(catalog.by_name[name], Cumulative) else ""
    asked: dict[str, Any] = {"grain": grain, "currency": "EUR", "costs": {"email": 0.5}, **more}
    until_s = since_s + (DAYS + 1) * 86_400
    query = compile_question(catalog, Question((name,), since_s - 86_400, until_s, **asked))
    times, lines = [], 0
    for _ in range(REPEATS):
        began_s = time.monotonic()
        lines = len(answer(client, query))
        times.append(1_000 * (time.monotonic() - began_s))
    return {
        "ms": round(statistics.median(times), 1),
        "best_ms": round(min(times), 1),
        "lines": lines,
    }


def say(name: str, **figures: Any) -> None:
    sys.stdout.write(json.dumps({"figure": name, **figures}) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.questions", description=__doc__)
    parser.add_argument("--facts", type=int, default=10_000_000)
    options = parser.parse_args()
    catalog = load_catalog()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedClickHouse(data_dir=Path(folder)) as store,
    ):
        client = connect(ClickHouseAddress(store.dsn, "airside"), create_database=True)
        apply_migrations(client, read_migrations(MIGRATIONS))
        began_s = time.monotonic()
        # A month that ends now: what is older than its retention would be gone at once.
        since_s = int(time.time()) - (DAYS + 1) * 86_400
        fill(client, options.facts, since_s)
        counts = {
            table: client.query("SELECT count() FROM {t:Identifier}", {"t": table}).result_rows[0][
                0
            ]
            for table in ("facts", "journeys", "rollup_1m_lanes")
        }
        say("filled", seconds=round(time.monotonic() - began_s, 1), **counts)
        for metric in catalog.metrics:
            say(metric.name, **ask(client, catalog, metric.name, since_s))
        for name in ("open_rate", "revenue_per_1k", "events"):
            say(f"{name} by campaign", **ask(client, catalog, name, since_s, by=("campaign",)))
            say(f"{name} by day", **ask(client, catalog, name, since_s, grain="day"))
        client.close()


if __name__ == "__main__":
    main()
