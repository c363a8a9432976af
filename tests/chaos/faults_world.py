"""Faults of the world around: broker, ClickHouse, partitions, and what producers send."""

from __future__ import annotations

import time
from random import Random
from typing import Final

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from tests.chaos.faults_process import drain, kill
from tests.chaos.oracle import INPUT_TOPICS
from tests.chaos.rig import Rig

ASK_S_MAX: Final = 30.0
ADOPT_S_MAX: Final = 45.0
JUMP_S: Final = 7_200
ADOPTED: Final = '"event": "partitions_adopted"'


def broker_restart(rig: Rig, rng: Random) -> None:
    """A clean restart under load."""
    rig.settle(rng.uniform(0.0, 1.0))
    rig.kafka.restart()


def broker_kill(rig: Rig, rng: Random) -> None:
    """A crash, and a start a moment later."""
    rig.settle(rng.uniform(0.0, 1.0))
    rig.kafka.kill()
    time.sleep(rng.uniform(0.0, 2.0))
    rig.kafka.start()


def broker_pause(rig: Rig, rng: Random) -> None:
    """Deaf for a moment, with its connections open."""
    rig.kafka.pause()
    time.sleep(rng.uniform(0.5, 2.5))
    rig.kafka.resume()


def broker_pause_long(rig: Rig, _rng: Random) -> None:
    """Deaf for longer than a transaction may stay open."""
    rig.kafka.pause()
    time.sleep(rig.transaction_s + 4.0)
    rig.kafka.resume()


def clickhouse_refuse(rig: Rig, rng: Random) -> None:
    """It refuses everything for a while: back-pressure, and nothing else."""
    rig.fault("refuse")
    rig.settle(rng.uniform(1.0, 4.0))
    rig.fault("none")


def clickhouse_slow(rig: Rig, rng: Random) -> None:
    """Each statement takes a while longer."""
    rig.fault("slow", seconds=rng.uniform(0.1, 0.6))
    rig.settle(rng.uniform(2.0, 4.0))
    rig.fault("none")


def clickhouse_slow_kill(rig: Rig, rng: Random) -> None:
    """A kill while rows are on their way: what is saved with their epoch is all that is left."""
    rig.fault("slow", seconds=rng.uniform(1.5, 3.0))
    rig.settle(rng.uniform(1.0, 2.0))
    kill(rig, rng)
    rig.fault("none")


def clickhouse_timeout_after(rig: Rig, rng: Random) -> None:
    """Inserts are applied, and the writer hears of a time-out."""
    for _ in range(rng.randrange(1, 4)):
        rig.fault("apply_then_timeout", count=rng.randrange(1, 4))
        rig.settle(0.8)
    rig.fault("none")


def clickhouse_kill(rig: Rig, rng: Random) -> None:
    """A crash of the server, and a start on the same data."""
    rig.clickhouse.child.kill()
    rig.settle(rng.uniform(0.0, 2.0))
    rig.clickhouse.start()


def transaction_timeout(rig: Rig, _rng: Random) -> None:
    """ClickHouse holds an epoch up for longer than its transaction may stay open."""
    rig.fault("slow", seconds=rig.transaction_s + 3.0, count=1)
    rig.settle(rig.transaction_s + 6.0)
    rig.fault("none")


def partitions_added(rig: Rig, rng: Random) -> None:
    """Every input topic gets as many partitions again, and a producer that knows them."""
    admin = AdminClient({"bootstrap.servers": rig.servers})
    found = admin.list_topics(timeout=ASK_S_MAX).topics
    topics = (*INPUT_TOPICS, *rig.tables)
    asked = [NewPartitions(topic, 2 * len(found[topic].partitions)) for topic in topics]
    for answer in admin.create_partitions(asked).values():
        answer.result(ASK_S_MAX)
    rig.load.bursts.backlog(rng, 400)
    deadline_s = time.monotonic() + ADOPT_S_MAX
    while ADOPTED not in rig.target.words() and time.monotonic() < deadline_s:
        rig.settle(0.5)
    rig.notes.append(f"partitions adopted while running: {ADOPTED in rig.target.words()}")


def backlog(rig: Rig, rng: Random) -> None:
    """Two hours of events that came while it did not run."""
    drain(rig)
    rig.load.bursts.backlog(rng, rng.randrange(1_000, 3_000))
    rig.keep()


def skew(rig: Rig, rng: Random) -> None:
    """Nine messages of ten are about one person."""
    rig.load.bursts.skewed(rng, rng.randrange(1_000, 3_000))


def poison(rig: Rig, rng: Random) -> None:
    """For a moment everything that comes is wrong."""
    rig.load.bursts.poison(rng, rng.randrange(100, 400))


def repeats(rig: Rig, rng: Random) -> None:
    """A producer sends each message twice."""
    rig.load.bursts.repeats(rng, rng.randrange(200, 600))
    rig.load.bursts.public(rng, 100)


def clock_jump(rig: Rig, rng: Random) -> None:
    """A producer's clock jumps by two hours, both ways."""
    rig.load.bursts.jump(rng, rng.randrange(200, 600))


def clock_step(rig: Rig, rng: Random) -> None:
    """The target's own clock jumps by two hours and, a while later, comes right again."""
    rig.ready()
    rig.settle(rng.uniform(0.5, 1.5))
    for seconds in (rng.choice((-JUMP_S, JUMP_S)), 0):
        rig.hits["clock_set_ahead" if seconds > rig.clock.seconds else "clock_set_back"] += 1
        rig.clock.move(seconds)
        rig.settle(rng.uniform(2.0, 4.0))
