"""Job A to three real topics with all headers: a tuned Python loop, and our two levels.

`python -m tests.bench.forward MANIFEST --rounds 3`, on a stage that `tests.bench keep` holds. The
loop decodes and routes and checks no ticket, so it does less than ours; all flush at their end.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.clock import SystemClock
from connectors.kafka.lanes import LaneSource
from connectors.native.level import load_native, plugin_config
from flows.garbage import tune_garbage_collection
from flows.ingest import make_checker, read_policy
from flows.settings import read_settings
from tests.bench.meter import MARK, Meter, Task, await_more, leave, read_task, report
from tests.bench.systems.raw import TUNED
from tests.bench.work import KINDS
from tests.services_clients import make_topic

WAYS: Final = ("loop", "pure", "native")
OUT: Final = {
    "linger.ms": 20,
    "acks": "1",
    "batch.num.messages": 10_000,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1_048_576,
}
FLUSH_S_MAX: Final = 120.0


def run_loop(task: Task, meter: Meter, producer: Producer) -> int:
    gc.disable()
    consumer = Consumer({"bootstrap.servers": task.bootstrap_servers, **TUNED})
    consumer.assign([TopicPartition(task.topic, number, 0) for number in task.ends])
    produce, seen, sent = producer.produce, 0, 0
    while seen < task.messages:
        messages = consumer.consume(4_000, 1.0)
        if messages:
            meter.begin()
        seen += len(messages)
        keys, values = list(map(Message.key, messages)), list(map(Message.value, messages))
        found: Any = list(map(Message.headers, messages))
        for key, value, headers in zip(keys, values, found, strict=True):
            words = dict(headers)
            try:
                KINDS[words["ce_type"]][1](value or b"")
                about = words["ce_dataclassification"] + b" " + words["ce_datapurpose"]
            except (KeyError, msgspec.MsgspecError):
                continue
            produce("bench." + task.destinations[about.decode()], value, key, headers=headers)
            sent += 1
        producer.poll(0)
    return sent


def run_ours(task: Task, meter: Meter, producer: Producer, writer: Any) -> int:
    settings = read_settings({"kafka": {"bootstrap_servers": "-"}, "clickhouse": {"url": "-"}})
    checker = make_checker(settings, read_policy(settings))
    source = LaneSource(
        bootstrap_servers=task.bootstrap_servers,
        lanes=1,
        tables=(),
        streams=(task.topic,),
        clock=SystemClock(),
        stop=lambda: False,
        level="pure" if writer is None else "native",
    )
    part = source.build_part("read_lanes", "000", None)
    tune_garbage_collection()
    seen = sent = 0
    while seen < task.messages:
        await_more(part)
        for _, raw in part.next_batch():
            meter.begin()
            block = checker.check(raw)
            seen += len(raw.values)
            topics = ["bench." + label.decision.topic for label in block.tickets.labels]
            doors = np.array([*range(len(topics)), 255], np.uint8)[block.tickets.numbers]
            doors[list(block.refusals)] = 255
            sent += int((doors != 255).sum())
            if writer is not None:
                found = writer.forward(raw.headers, doors.tobytes(), topics, None, 0)
                assert found == (len(doors), 0), found
                producer.poll(0)
                continue
            numbers: list[int] = doors.tolist()
            rows = zip(numbers, raw.keys, raw.values, raw.headers, strict=True)
            for number, key, value, headers in rows:
                if number != 255:
                    given: Any = headers
                    producer.produce(topics[number], value, key, headers=given)
            producer.poll(0)
    return sent


def run(task: Task) -> None:
    """One way in this process."""
    config: dict[str, Any] = {"bootstrap.servers": task.bootstrap_servers, **OUT}
    meter, writer = Meter(), None
    if task.job == "native":
        producer = Producer(plugin_config(config))
        writer = load_native().Writer()
        sent = run_ours(task, meter, producer, writer)
    else:
        producer = Producer(config)
        way = run_loop(task, meter, producer) if task.job == "loop" else None
        sent = run_ours(task, meter, producer, None) if way is None else way
    assert producer.flush(FLUSH_S_MAX) == 0
    assert writer is None or writer.failure() is None
    report(meter.end(), {"sent": sent}, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    stage = json.loads(Path(args.manifest).read_text(encoding="utf-8"))
    servers = stage["bootstrap_servers"]
    known = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=10.0).topics
    for topic in {f"bench.{name}" for name in stage["destinations"].values()} - known.keys():
        make_topic(servers, topic, partitions=4)
    spent: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for way in WAYS:
            command = [sys.executable, "-m", "tests.bench.forward", args.manifest, way]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
            found = json.loads(line.removeprefix(MARK))
            cost = found["measured"]["cpu_s"] / stage["messages"] * 1e6
            spent.setdefault(way, []).append(cost)
            sent = found["counts"]["sent"]
            sys.stdout.write(f"{way:7} {cost:6.2f} us CPU each, {sent:,} sent\n")
            sys.stdout.flush()
    base = median(spent["loop"])
    for way, costs in spent.items():
        sys.stdout.write(f"{way:7} median {median(costs):6.2f} us, {base / median(costs):.2f} x\n")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] in WAYS:
        run(read_task())
        leave()
    main()
