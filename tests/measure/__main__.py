"""Measure on Apache Kafka and the embedded ClickHouse, and print one JSON line for each figure.

Nothing is asserted but that the numbers add up: machines differ, and so do times.
"""

from __future__ import annotations

import argparse
import pickle
import re
import statistics
import time
from typing import Final
from urllib.request import urlopen

from connectors.embedded.child import free_port
from connectors.recovery import StateKey
from connectors.recovery_write import write_store
from flows.cells import Cell, Home
from flows.ingest import make_gate, read_policy
from flows.settings import Settings
from schemas.rollup import Dimensions
from tests.measure.decisions import measure_decisions, measure_shares
from tests.measure.rigs import (
    LANES,
    LOOK_S,
    STALLED,
    catch_up,
    make_rig,
    peak_mb,
    resident_mb,
    say,
    timing_rig,
)

START_S_MAX: Final = 300.0
WRITTEN: Final = re.compile(r'airside_write_seconds_sum\{table="(\w+)"\} ([0-9.e+-]+)')


def lane_state(settings: Settings, entries: int) -> bytes:
    """A lane's state with so many remembered events, and a rollup cell for every tenth."""
    gate = make_gate(settings, read_policy(settings))
    now_ms = time.time_ns() // 1_000_000
    for number in range(entries):
        at_ms = now_ms - number * 3_000_000 // entries
        event = number * 0x9E3779B97F4A7C15 & (1 << 64) - 1
        gate.memory.see(event=event, source=1, content=event ^ 7, purpose=0, now_ms=at_ms)
    minute = now_ms // 60_000
    cells = range(entries // 10)
    changed = [
        gate.rollup.number_of(Dimensions("ntf.delivery.delivered.v1", f"c{n}", "push", "PII", ""))
        for n in range(100)
    ]
    gate.rollup.add(
        minutes=[minute - n // 100 % 1_440 for n in cells],
        numbers=[changed[n % 100] for n in cells],
        amounts=[0] * len(cells),
        buckets=[3] * len(cells),
        recorded=[now_ms] * len(cells),
    )
    return gate.dump()


def measure_restart(entries: int) -> None:
    """From the start of the process to its first durable epoch, with so much state."""
    with make_rig(AIRSIDE_LIMIT__WINDOW="20000") as rig:
        rig.ingest.start()
        assert rig.ingest.stop() == 0
        state = lane_state(rig.ingest.settings, entries // LANES)
        home = Home(rig.ingest.folder, "ingest")
        states: dict[StateKey, bytes] = {
            ("ingest.pass_gate", f"{lane:03d}"): pickle.dumps(state) for lane in range(LANES)
        }
        write_store(home.store(Cell()), states)
        sign = home.sign(Cell())
        times = []
        for _ in range(3):
            sign.unlink(missing_ok=True)
            began_s = time.monotonic()
            rig.ingest.spawn()
            while not sign.exists():
                assert time.monotonic() - began_s < START_S_MAX, rig.ingest.words()[-2_000:]
                time.sleep(LOOK_S)
            times.append(time.monotonic() - began_s)
            rig.ingest.kill()
        say(
            "restart",
            entries=entries,
            state_bytes=len(state) * LANES,
            first_durable_s=[round(seconds, 2) for seconds in times],
        )


def measure_stall(rate: int, seconds: int) -> None:
    """How long lanes read nothing while an epoch is made durable, under a steady load."""
    port = free_port()
    with make_rig(AIRSIDE_METRICS_PORT=str(port), AIRSIDE_EPOCH_S="5") as rig:
        with rig.sending(rig.world(rate * seconds), rate=rate):
            rig.ingest.start()
        rig.wait()
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {"sum": 0.0, "count": 0.0}
        for part, value in STALLED.findall(text):
            found[part] += float(value)
        assert rig.ingest.stop() == 0
        report = rig.verify()
        assert report.mismatches == 0, report.sentences
        say(
            "epoch_stall",
            rate=rate,
            epochs=int(found["count"] / LANES),
            mean_ms=round(found["sum"] / found["count"] * 1_000, 1),
            inserts_ms={
                table: round(float(seconds) / found["count"] * LANES * 1_000, 1)
                for table, seconds in WRITTEN.findall(text)
            },
        )


def measure_outage(minutes: float, rate: int) -> None:
    """Memory of a worker while ClickHouse refuses everything, and the numbers afterwards."""
    seconds = int(minutes * 60)
    patience = {"AIRSIDE_CLICKHOUSE__RETRY_S_MAX": str(seconds + 120)}
    with make_rig(AIRSIDE_EPOCH_S="5", **patience) as rig:
        world = rig.world(rate * (seconds + 60))
        samples: list[float] = []
        with rig.sending(world, rate=rate) as streaming:
            rig.ingest.start()
            assert streaming.wait(60)
            time.sleep(10)
            before = resident_mb(rig.ingest.pid)
            rig.fault("refuse")
            ends_s = time.monotonic() + seconds
            while time.monotonic() < ends_s:
                assert rig.ingest.is_running(), rig.ingest.words()[-2_000:]
                samples.append(resident_mb(rig.ingest.pid))
                time.sleep(2)
            rig.fault("none")
            say(
                "clickhouse_outage",
                minutes=minutes,
                rate=rate,
                rss_before_mb=round(before),
                rss_median_mb=round(statistics.median(samples)),
                rss_max_mb=round(max(samples)),
            )
            afterwards: list[float] = []
        catch_up(rig, afterwards)
        assert rig.ingest.stop() == 0
        report = rig.verify()
        say(
            "after_the_outage",
            sent=rig.truth.total,
            mismatches=report.mismatches,
            rss_max_mb=round(max(afterwards, default=0.0)),
        )


def measure_backlog(flow: str, messages: int, bound: int, epoch_s: float) -> None:
    """Memory and pace of a worker that works off a backlog, with so many messages an epoch."""
    more = {"AIRSIDE_EPOCH_MESSAGES_MAX": str(bound), "AIRSIDE_EPOCH_S": str(epoch_s)}
    with (timing_rig if flow == "all" else make_rig)(**more) as rig:
        rig.send(rig.world(messages))
        began_s = time.monotonic()
        rig.ingest.start()
        rest_mb = resident_mb(rig.ingest.pid)
        catch_up(rig, [])
        took_s = time.monotonic() - began_s
        peak = peak_mb(rig.ingest.pid)
        assert rig.ingest.stop() == 0
        report = rig.verify()
        say(
            "backlog",
            flow=flow,
            sent=rig.truth.total,
            epoch_messages_max=bound,
            epoch_s=epoch_s,
            messages_a_second=round(rig.truth.total / took_s),
            rss_at_start_mb=round(rest_mb),
            rss_max_mb=round(peak),
            mismatches=report.mismatches,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure", description=__doc__)
    some = parser.add_subparsers(dest="what", required=True)
    restart = some.add_parser("restart")
    restart.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    stall = some.add_parser("stall")
    stall.add_argument("--rate", type=int, default=1_500)
    stall.add_argument("--seconds", type=int, default=40)
    outage = some.add_parser("outage")
    outage.add_argument("--minutes", type=float, default=10.0)
    outage.add_argument("--rate", type=int, default=300)
    backlog = some.add_parser("backlog")
    backlog.add_argument("--flow", choices=("ingest", "all"), default="ingest")
    backlog.add_argument("--messages", type=int, default=200_000)
    backlog.add_argument("--bounds", type=int, nargs="+", default=[100_000_000, 250_000, 50_000])
    backlog.add_argument("--epoch-s", type=float, default=5.0)
    timed = some.add_parser("decisions")
    timed.add_argument("--rate", type=int, default=500)
    timed.add_argument("--seconds", type=int, default=30)
    timed.add_argument("--epoch-s", type=float, default=5.0)
    timed.add_argument("--span-s", type=float, default=0.0)
    timed.add_argument("--lanes", type=int, default=LANES)
    shares = some.add_parser("shares")
    shares.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.5, 0.8])
    shares.add_argument("--seconds", type=int, default=30)
    shares.add_argument("--epoch-s", type=float, default=5.0)
    shares.add_argument("--span-s", type=float, default=0.0)
    shares.add_argument("--messages", type=int, default=60_000)
    shares.add_argument("--lanes", type=int, default=LANES)
    options = parser.parse_args()
    if options.what == "restart":
        for entries in options.entries:
            measure_restart(entries)
    elif options.what == "stall":
        measure_stall(options.rate, options.seconds)
    elif options.what == "backlog":
        for bound in options.bounds:
            measure_backlog(options.flow, options.messages, bound, options.epoch_s)
    elif options.what == "decisions":
        measure_decisions(
            options.rate,
            options.seconds,
            options.epoch_s,
            span_s=options.span_s,
            lanes=options.lanes,
        )
    elif options.what == "shares":
        measure_shares(
            options.shares,
            options.seconds,
            options.epoch_s,
            span_s=options.span_s,
            total=options.messages,
            lanes=options.lanes,
        )
    else:
        measure_outage(options.minutes, options.rate)


if __name__ == "__main__":
    main()
