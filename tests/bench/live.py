"""Live traffic at a share of what the whole ingest flow can do: latency from end to end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaError, Message, Producer

from flows.latency import ArrivalClock
from flows.simulate.truth import Place
from tests.bench.compare import WHOLE, Comparison, WrongError, run_once
from tests.bench.corpus import TOPIC, Corpus, Sample
from tests.bench.environments import TOP, child_environment
from tests.bench.scale import machine_s
from tests.bench.stage import Stage, prepare_ingest, produce, set_up, start_ms, write_manifest
from tests.bench.talk import say

SHARES: Final = (0.2, 0.5, 0.8)
FIRST: Final = 200
"""Messages before the others: once they arrived, the flow runs, and what follows is timed."""
WAIT_S_MAX: Final = 120.0
TICK_S: Final = 0.01
PERCENTILES: Final = (50.0, 99.0, 99.9)


def catch_up(
    stage: Stage, *, level: str, rounds: int, run_s_max: float, cache: Path
) -> list[float]:
    """How fast the flow with its sinks works off a filled topic. Units: messages a second."""
    prepare_ingest(stage)
    messages = Comparison(stage, cache=cache).messages
    rates = []
    for _ in range(rounds):
        idle_s, all_s = machine_s()
        run = run_once(stage, f"{WHOLE}-{level}", "A", cache=cache, run_s_max=run_s_max)
        idle_s, all_s = (now - then for now, then in zip(machine_s(), (idle_s, all_s), strict=True))
        rates.append(messages / run.wall_s)
        idle = idle_s / all_s
        say(f"caught up {rates[-1]:,.0f} messages a second; {idle:.2f} of the machine was idle")
    return rates


class Sender:
    """Sends the corpus at a rate, and keeps when it handed each message over."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 0})
        self.sent_s: dict[Place, float] = {}
        self.failed = 0

    def _note(self, at_s: float, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed += 1
            return
        place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
        self.sent_s[place] = at_s

    def send(self, samples: Iterable[Sample], rate: float) -> None:
        """Units: messages a second; 0 for as fast as it goes."""
        began_s = time.monotonic()
        for number, sample in enumerate(samples):
            while rate and number / rate > time.monotonic() - began_s:
                self._producer.poll(TICK_S)
            produce(self._producer, TOPIC, sample, partial(self._note, time.monotonic()))
        self.failed += self._producer.flush(WAIT_S_MAX)


def percentiles(spans_ms: list[float]) -> dict[str, float]:
    """Units: milliseconds. Shapes: nothing when there are no spans."""
    if not spans_ms:
        return {}
    found = np.percentile(spans_ms, PERCENTILES)
    return {
        f"p{share:g}": round(float(at), 1) for share, at in zip(PERCENTILES, found, strict=True)
    }


def measure(folder: Path, *, rate: float, seconds: float, level: str) -> dict[str, Any]:
    """The flow over live traffic on a broker of its own.

    Errors: WrongError when not all that has to be routed arrived.
    """
    messages = FIRST + int(rate * seconds)
    corpus = Corpus(messages, start_ms=start_ms())
    samples = list(corpus.samples())
    with set_up(folder, messages=0) as empty:
        stage = empty._replace(expected=corpus.expected())
        write_manifest(stage, messages, corpus.ends)
        prepare_ingest(stage)
        module = f"tests.bench.systems.{WHOLE}"
        command = [sys.executable, "-m", module, str(stage.manifest), "A", level]
        sender, timed = Sender(stage.bootstrap_servers), Sender(stage.bootstrap_servers)
        flow = subprocess.Popen(
            command,
            cwd=TOP,
            env=child_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with ArrivalClock(stage.bootstrap_servers) as clock:
                sender.send(samples[:FIRST], 0)
                first = _routed(FIRST)
                _wait(lambda: len(clock.spans_ms(sender.sent_s)) >= first, flow)
                timed.send(samples[FIRST:], rate)
                routed = sum(stage.expected["routed"].values()) - first
                _wait(lambda: len(clock.spans_ms(timed.sent_s)) >= routed, flow)
                spans = clock.spans_ms(timed.sent_s)
            flow.wait(WAIT_S_MAX)
        finally:
            flow.kill()
            flow.wait()
    if sender.failed or timed.failed or len(spans) != routed or flow.returncode:
        raise WrongError(f"{len(spans)} messages arrived; expected {routed}")
    return {"rate": round(rate), "messages": len(spans), **percentiles(spans)}


def _routed(messages: int) -> int:
    """How many of the first messages of the corpus have to be routed."""
    corpus = Corpus(messages, start_ms=start_ms())
    for _ in corpus.samples():
        pass
    return sum(corpus.expected()["routed"].values())


def _wait(done: Any, flow: subprocess.Popen[bytes]) -> None:
    """Wait until it is done, as long as the flow runs and the bound is not reached."""
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not done() and time.monotonic() < deadline_s and flow.poll() in (None, 0):
        time.sleep(0.1)


def play(folder: Path, *, rate: float, seconds: float, level: str) -> dict[str, Any]:
    """Each share of a capacity by turns."""
    rows = []
    for share in SHARES:
        row = measure(folder / f"{share:g}", rate=rate * share, seconds=seconds, level=level)
        rows.append({"share": share, **row})
        say(str(rows[-1]))
    return {"capacity": round(rate), "level": level, "seconds": seconds, "latency_ms": rows}
