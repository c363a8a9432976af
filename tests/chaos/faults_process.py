"""Faults of processes: killed, told to stop, frozen, replaced, at random and at named points."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from random import Random
from typing import Final

from confluent_kafka import KafkaException, Producer

from tests.chaos.rig import Rig
from tests.chaos.target import CONFIG, ROOT, START_S_MAX, STARTED

CRASH_S_MAX: Final = 25.0
SECOND_S_MAX: Final = 20.0


def kill(rig: Rig, rng: Random) -> None:
    """One worker, at any moment: now and then while it is still starting."""
    rig.settle(rng.uniform(0.0, 1.5))
    workers = rig.target.workers()
    if not workers:
        return
    pid = workers[rng.choice(sorted(workers))]
    rig.target.tell_one(pid, signal.SIGKILL)
    rig.target.killed += 1
    if not rig.target.cells:
        rig.target.wait_ended(ours=True)
        rig.target.start(wait=rng.random() < 0.7)
    else:
        time.sleep(0.2)


def kill_all(rig: Rig, rng: Random) -> None:
    """All workers at once."""
    rig.settle(rng.uniform(0.0, 1.0))
    if not rig.target.cells:
        rig.target.kill()
        rig.target.start()
    else:
        rig.target.killed += rig.target.tell_workers(signal.SIGKILL) > 0
        time.sleep(0.2)


def crash_at(rig: Rig, rng: Random, point: str) -> None:
    """Start it so that it dies at a point, and again so that it does not."""
    drain(rig)
    first = point in ("loading", "draining")
    more = {"AIRSIDE_CRASH_AT": f"{point}:{1 if first else rng.randrange(1, 6)}"}
    rig.target.start(more, wait=False)
    if point == "draining":
        rig.target.wait_started()
        rig.settle_alive(0.5)
        rig.target.tell(signal.SIGTERM)
    _wait_crash(rig, point)


def _wait_crash(rig: Rig, point: str) -> None:
    """Wait until the point ended a process, if it was passed often enough in this time.

    The time begins with the flow: how long Python takes to start it is not what is tried.
    """
    began_s = time.monotonic()
    deadline_s = began_s + CRASH_S_MAX
    before = len(rig.target.cell_exits())
    while rig.target.is_running() and time.monotonic() < deadline_s:
        if any(end["signal"] == "SIGKILL" for end in rig.target.cell_exits()[before:]):
            rig.target.killed += 1
            rig.hits[point] += 1
            break
        if STARTED not in rig.target.words() and time.monotonic() - began_s < START_S_MAX:
            deadline_s = time.monotonic() + CRASH_S_MAX
        time.sleep(0.05)
    ended = rig.target.noticed_end(ours=True)
    if ended is not None and ended.code == -signal.SIGKILL:
        rig.target.killed += 1
        rig.hits[point] += 1
    # Armed as it is, it may not be left running when it did not come so far.
    if rig.target.is_running() and not rig.target.cells:
        rig.target.stop(ours=True)  # it may pass the point on its way out
    rig.keep()


def drain(rig: Rig, number: signal.Signals = signal.SIGTERM) -> None:
    """Ask it to end, once it listens: it ends with 0, or with a reason if the world is broken."""
    rig.ready()
    rig.target.stop(number)
    rig.judge_exit()


def sigterm(rig: Rig, rng: Random) -> None:
    """A drain: it ends with 0."""
    rig.settle(rng.uniform(0.0, 1.0))
    drain(rig, signal.SIGTERM)
    rig.target.start()


def sigterm_twice(rig: Rig, rng: Random) -> None:
    """Asked again while it drains."""
    rig.settle(rng.uniform(0.0, 1.0))
    rig.ready()
    rig.target.tell(signal.SIGTERM)
    time.sleep(rng.uniform(0.0, 0.3))
    drain(rig)
    rig.target.start()


def sigint(rig: Rig, rng: Random) -> None:
    """As from a terminal."""
    rig.settle(rng.uniform(0.0, 1.0))
    drain(rig, signal.SIGINT)
    rig.target.start()


def freeze(rig: Rig, rng: Random) -> None:
    """Stopped for a second, then let go on: nothing but time is lost."""
    rig.settle(rng.uniform(0.0, 1.0))
    rig.target.tell_workers(signal.SIGSTOP)
    time.sleep(1.0)
    rig.target.tell_workers(signal.SIGCONT)


def zombie(rig: Rig, rng: Random) -> None:
    """Stopped until the broker gave its transaction up, then let go on: it may not commit."""
    rig.settle(rng.uniform(0.0, 1.0))
    rig.target.tell_workers(signal.SIGSTOP)
    time.sleep(rig.transaction_s + 2.0)
    rig.target.tell_workers(signal.SIGCONT)
    rig.settle(2.0)


def hijack(rig: Rig, rng: Random) -> None:
    """Somebody takes a lane's transactional id: the worker is fenced and ends with a reason."""
    rig.settle(rng.uniform(0.5, 1.5))
    thief = Producer(
        {
            "bootstrap.servers": rig.servers,
            "transactional.id": f"airside.a1.{rig.target.flow}.{rng.randrange(4):03d}",
            "transaction.timeout.ms": 5_000,
        }
    )
    try:
        thief.init_transactions(20.0)
    except KafkaException as err:
        rig.notes.append(f"hijack: Kafka error {err.args[0].name()}")
    rig.settle(3.0)


def second_instance(rig: Rig, _rng: Random) -> None:
    """The same command once more: refused before it touches anything."""
    rig.keep()
    words = [sys.executable, "-m", "flows", "run", rig.target.flow]
    if rig.target.cells:
        words += ["--cells", str(rig.target.cells)]
    try:
        ran = subprocess.run(
            words,
            cwd=ROOT,
            env=rig.target.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECOND_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        rig.breaches.append("a second instance ran beside the first")
        return
    if rig.target.is_running() and ran.returncode != CONFIG:
        rig.breaches.append(f"a second instance gave exit {ran.returncode}")
