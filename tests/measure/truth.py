"""Compare every metric with the truth on the running system, world after world.

`python -m tests.measure.truth --seeds 10`: worlds with late, repeated and out-of-order messages
go one after another through `airside run all` on Apache Kafka (`--embedded`: on the embedded
broker), which is killed while it reads each of them. After each, all of `schemas/metrics.yaml` is
asked for in all, by campaign and by hour, over all worlds so far; at the end every message,
journey and outcome is compared, too. One JSON line for each world; ends with 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

from connectors.embedded.broker import EmbeddedBroker
from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.simulate import World
from flows.simulate.plan import Shares
from schemas.metrics import load_catalog
from tests.ingest_process import STARTED
from tests.integration.test_ingest import Rig
from tests.integration.test_journeys import AllProcess, verified, wait_until_no_more_comes
from tests.measure.rigs import say
from tests.metrics_truth import compare
from tests.services_kafka import KafkaNode

SHARES: Final = Shares(late=0.05, duplicate=0.05, out_of_order=0.1)
SHOWN: Final = ("late", "repeat", "out_of_order")
RATE: Final = 800
EPOCH_S: Final = 0.5
START_S_MAX: Final = 600.0
LATE_PROFILES: Final = "SELECT count() FROM rollup_1m_lanes FINAL WHERE late > 0"


class AllRig(Rig):
    """All flows in one process."""

    process = AllProcess


def make_rig(stack: ExitStack, *, embedded: bool) -> Rig:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if embedded:
        broker = stack.enter_context(EmbeddedBroker(data_dir=folder))
        servers, delivery = broker.bootstrap_servers, "at_least_once"
    else:
        node = stack.enter_context(KafkaNode(folder / "kafka"))
        servers, delivery = node.bootstrap_servers, "exactly_once"
    clickhouse = stack.enter_context(EmbeddedClickHouse(data_dir=folder, faults=True))
    rig = AllRig(folder, servers, clickhouse, delivery)
    stack.callback(rig.close)
    return rig


def start(rig: Rig) -> None:
    """Start the flow, however long a busy machine takes for it."""
    before = rig.ingest.words().count(STARTED)
    rig.ingest.spawn()
    ends_s = time.monotonic() + START_S_MAX
    while rig.ingest.words().count(STARTED) == before:
        assert rig.ingest.is_running(), rig.ingest.words()[-2_000:]
        assert time.monotonic() < ends_s, "the flow does not start"
        time.sleep(0.1)


def late_profiles(rig: Rig) -> int:
    """Profiles of minutes that were closed, or that were as long on their way."""
    return int(rig.client.query(LATE_PROFILES).result_rows[0][0])


def play(rig: Rig, seed: int, messages: int, kills: int) -> bool:
    """Send one more world through kills; tells whether every metric was right."""
    rng = Random(seed)
    now_ms = time.time_ns() // 1_000_000
    world = World(seed, total=messages, end_ms=now_ms, people=250, shares=SHARES)
    before = rig.truth.faults()
    with rig.sending(world, rate=RATE) as streaming:
        assert streaming.wait(START_S_MAX)
        for _ in range(kills):
            time.sleep(rng.uniform(0.3, 2.0))
            rig.ingest.kill()
            start(rig)
    rig.wait()
    wait_until_no_more_comes(rig)
    time.sleep(4 * EPOCH_S)  # what an epoch has written besides, and its outcomes
    compared = compare(rig.client, rig.truth)
    complete = compared.metrics == set(load_catalog().by_name)
    faults = rig.truth.faults() - before
    say(
        "truth",
        seed=seed,
        kills=kills,
        messages=messages,
        faults={name: faults[name] for name in SHOWN},
        metrics=len(compared.metrics),
        values=compared.values,
        differing=compared.differing[:10],
    )
    return complete and not compared.differing


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.truth", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many worlds (default 10)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--messages", type=int, default=2_500, help="in one (default 2500)")
    parser.add_argument("--kills", type=int, default=1, help="in one (default 1)")
    parser.add_argument("--embedded", action="store_true", help="without Apache Kafka")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    with ExitStack() as stack:
        rig = make_rig(stack, embedded=options.embedded)
        start(rig)
        right = [play(rig, seed, options.messages, options.kills) for seed in seeds]
        assert rig.ingest.stop() == 0
        report = verified(rig)
        say(
            "truth_of_all",
            broker="embedded" if options.embedded else "kafka",
            worlds=len(seeds),
            kills=options.kills * len(seeds),
            messages=report.produced,
            facts=report.facts,
            late_profiles=late_profiles(rig),
            journeys=report.journeys,
            outcomes=report.outcomes,
            mismatches=report.mismatches,
            sentences=report.sentences[:10],
        )
    return 0 if all(right) and report.mismatches == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
