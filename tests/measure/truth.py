"""Compare every metric with the truth on the running system, world after world.

`python -m tests.measure.truth --seeds 10`: each world has late, repeated and out-of-order
messages, and goes through `airside run all` on Apache Kafka (`--embedded`: on the embedded
broker), which is killed meanwhile. Then all of `schemas/metrics.yaml` is asked for
in all, by campaign and by hour. One JSON line for each seed; ends with 1 if anything differs.
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
from tests.integration.test_ingest import Rig
from tests.integration.test_journeys import AllProcess, verified
from tests.measure.__main__ import say
from tests.metrics_truth import compare
from tests.services_kafka import KafkaNode

SHARES: Final = Shares(late=0.05, duplicate=0.05, out_of_order=0.1)
SHOWN: Final = ("late", "repeat", "out_of_order")
RATE: Final = 800
START_S_MAX: Final = 120.0
SEEDS_MAX: Final = 100


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


def measure(seed: int, messages: int, kills: int, *, embedded: bool) -> bool:
    """Send one world through kills; tells whether everything was right."""
    rng = Random(seed)
    with ExitStack() as stack:
        rig = make_rig(stack, embedded=embedded)
        end_ms = time.time_ns() // 1_000_000
        world = World(seed, total=messages, end_ms=end_ms, people=250, shares=SHARES)
        with rig.sending(world, rate=RATE) as streaming:
            rig.ingest.start()
            assert streaming.wait(START_S_MAX)
            for _ in range(kills):
                time.sleep(rng.uniform(0.4, 2.0))
                rig.ingest.kill()
                rig.ingest.start()
        rig.wait()
        assert rig.ingest.stop() == 0
        report, compared = verified(rig), compare(rig.client, rig.truth)
    complete = compared.metrics == set(load_catalog().by_name)
    say(
        "truth",
        seed=seed,
        broker="embedded" if embedded else "kafka",
        kills=kills,
        messages=report.produced,
        faults={name: rig.truth.faults()[name] for name in SHOWN},
        journeys=report.journeys,
        metrics=len(compared.metrics),
        values=compared.values,
        differing=compared.differing[:10],
        mismatches=report.mismatches,
        sentences=report.sentences[:10],
    )
    return complete and not compared.differing and report.mismatches == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.truth", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many worlds (default 10)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--messages", type=int, default=4_000, help="in one (default 4000)")
    parser.add_argument("--kills", type=int, default=2, help="of one (default 2)")
    parser.add_argument("--embedded", action="store_true", help="without Apache Kafka")
    options = parser.parse_args()
    seeds = range(options.first, options.first + min(options.seeds, SEEDS_MAX))
    right = [
        measure(seed, options.messages, options.kills, embedded=options.embedded) for seed in seeds
    ]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
