"""How long a decision takes, at a rate or at shares of what the machine can do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from connectors.embedded.child import free_port
from flows.latency import ArrivalClock, TimedTruth
from flows.simulate import World
from tests.ingest_process import decided
from tests.integration.test_ingest import SEED
from tests.measure.rigs import LOOK_S, STALLED, catch_up, say, timing_rig


def cpu_s(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stall_of(port: int) -> dict[str, float]:
    """Seconds in which lanes read nothing, added up, and how often."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {"sum": 0.0, "count": 0.0}
    for part, value in STALLED.findall(text):
        found[part] += float(value)
    return found


def measure_capacity(total: int, lanes: int) -> int:
    """Messages a second, from a backlog, all followers included."""
    with timing_rig(AIRSIDE_EPOCH_S="1", AIRSIDE_LANES=str(lanes)) as rig:
        rig.send(rig.world(total))
        rig.ingest.start()
        at: list[tuple[float, int]] = []
        while not at or at[-1][1] < rig.truth.total:
            found = decided(rig.client)
            if found and (not at or found > at[-1][1]):
                at.append((time.monotonic(), found))
            assert rig.ingest.is_running(), rig.ingest.words()[-2_000:]
            time.sleep(LOOK_S)
        assert rig.ingest.stop() == 0
    (began_s, before), (ended_s, after) = at[0], at[-1]
    capacity = int((after - before) / max(ended_s - began_s, LOOK_S)) if after > before else total
    say("capacity", lanes=lanes, messages=total, messages_a_second=capacity)
    return capacity


def measure_decisions(
    rate: int, seconds: int, epoch_s: float, *, span_s: float, lanes: int, **more: Any
) -> None:
    """From a request in Kafka to its decision at a consumer, beside a consumer of the requests.

    A world that spans more time than it is sent in closes its minutes and publishes its models as
    much more often: `span_s` of 0 makes it as long as its sending, as traffic is.
    """
    total = rate * seconds
    span_s = span_s or seconds
    world = World(SEED, total=total, end_ms=time.time_ns() // 1_000_000, span_s=span_s)
    port = free_port()
    settings = {
        "AIRSIDE_EPOCH_S": str(epoch_s),
        "AIRSIDE_LANES": str(lanes),
        "AIRSIDE_METRICS_PORT": str(port),
    }
    with timing_rig(**settings) as rig:
        rig.truth = truth = TimedTruth()
        with (
            ArrivalClock(rig.servers, ["ntf.decisions.v1"]) as decided_at,
            ArrivalClock(rig.servers, ["ntf.requests.v1"]) as plain_at,
            rig.sending(world, rate=rate) as streaming,
        ):
            rig.ingest.start()
            assert streaming.wait(120)
            began_s, before_s = time.monotonic(), cpu_s(rig.ingest.pid)
            time.sleep(seconds * 0.8)
            busy = (cpu_s(rig.ingest.pid) - before_s) / (time.monotonic() - began_s)
            stall = stall_of(port)
            catch_up(rig, [])
        assert rig.ingest.stop() == 0
        count = rig.client.query("SELECT count() FROM decisions FINAL").result_rows[0][0]
        say(
            "decisions",
            **more,
            rate=rate,
            lanes=lanes,
            span_s=span_s,
            epoch_s=epoch_s,
            decisions=count,
            worker_cores=round(busy, 2),
            epoch_stall_ms=round(stall["sum"] / max(stall["count"], 1) * 1_000, 1),
            request_to_decision_ms=decided_at.percentiles(truth.confirmed_s),
            request_to_consumer_ms=plain_at.percentiles(truth.confirmed_s),
        )


def measure_shares(
    shares: list[float], seconds: int, epoch_s: float, *, span_s: float, total: int, lanes: int
) -> None:
    """The same at shares of what this machine can do."""
    capacity = measure_capacity(total, lanes)
    for share in shares:
        rate = int(capacity * share)
        measure_decisions(
            rate, seconds, epoch_s, span_s=span_s, lanes=lanes, share_of_capacity=share
        )
