"""The yardstick: a tuned confluent-kafka loop that reads values and headers, and no more."""

from __future__ import annotations

import gc
from importlib.metadata import version

import confluent_kafka
from confluent_kafka import Consumer, Message, TopicPartition

from tests.bench.meter import Meter, Task, leave, read_task, report

BATCH = 4_000
TUNED = {
    "group.id": "bench-raw",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.queue.backoff.ms": 2,
}


def run(task: Task) -> None:
    gc.disable()
    consumer = Consumer({"bootstrap.servers": task.bootstrap_servers, **TUNED})
    consumer.assign([TopicPartition(task.topic, number, 0) for number in task.ends])
    meter, seen = Meter(), 0
    while seen < task.messages:
        messages = consumer.consume(BATCH, 1.0)
        if messages:
            meter.begin()
        values = list(map(Message.value, messages))
        headers = list(map(Message.headers, messages))
        assert len(values) == len(headers)
        seen += len(messages)
    measured = meter.end()
    versions = {
        "confluent-kafka": version("confluent-kafka"),
        "librdkafka": str(confluent_kafka.libversion()[0]),
    }
    report(measured, {"seen": seen}, versions)


if __name__ == "__main__":
    run(read_task())
    leave()
