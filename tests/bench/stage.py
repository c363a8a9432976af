"""Where the benchmark plays: a broker and a ClickHouse, the filled topic, the manifest."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors.embedded.stack import EmbeddedStack
from flows.commands import apply_all_topics, migrate_database
from flows.places import POLICY
from flows.settings import read_settings
from schemas.policy import load_policy
from tests.bench import tables
from tests.bench.corpus import CLASSES, TOPIC, Corpus, Shape
from tests.bench.talk import say

MINUTE_MS: Final = 60_000
BEFORE_NOW_MIN: Final = 20
MANIFEST: Final = "manifest.json"


class Stage(NamedTuple):
    """What the runs need. Shapes: `expected` holds the counts of all jobs together."""

    manifest: Path
    expected: dict[str, Any]
    clickhouse_url: str
    bootstrap_servers: str
    broker: str


@contextlib.contextmanager
def set_up(
    folder: Path,
    *,
    messages: int,
    bootstrap_servers: str = "",
    clickhouse_url: str = "",
    shape: Shape | None = None,
) -> Iterator[Stage]:
    """Start what was not named, fill the topic, write the manifest; end what was started."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as running:
        broker = "the one named"
        if not (bootstrap_servers and clickhouse_url):
            stack = running.enter_context(EmbeddedStack(folder / "stack"))
            if not bootstrap_servers:
                broker = "embedded (Tansu, in memory)"
            bootstrap_servers = bootstrap_servers or stack.bootstrap_servers
            clickhouse_url = clickhouse_url or stack.clickhouse_url
        for statement in tables.CREATE:
            tables.ask(clickhouse_url, statement)
        corpus = fill(bootstrap_servers, messages, shape or Shape())
        manifest = folder / MANIFEST
        stage = Stage(manifest, corpus.expected(), clickhouse_url, bootstrap_servers, broker)
        write_manifest(stage, messages, corpus.ends)
        yield stage


def write_manifest(stage: Stage, messages: int, ends: dict[int, int]) -> None:
    """What the runs are told, in a file."""
    stage.manifest.write_text(
        json.dumps(
            {
                "bootstrap_servers": stage.bootstrap_servers,
                "clickhouse_url": stage.clickhouse_url,
                "topic": TOPIC,
                "messages": messages,
                "ends": ends,
                "destinations": destinations(),
                "expected": stage.expected,
            }
        )
    )


def prepare_ingest(stage: Stage) -> None:
    """Make the topics and tables that the whole ingest flow writes to."""
    settings = read_settings(
        {
            "kafka": {"bootstrap_servers": stage.bootstrap_servers},
            "clickhouse": {"url": stage.clickhouse_url},
        }
    )
    apply_all_topics(settings)
    migrate_database(settings.clickhouse_address)


def open_stage(manifest: Path) -> Stage:
    """The stage that another process keeps."""
    told = json.loads(manifest.read_text())
    servers = told["bootstrap_servers"]
    return Stage(manifest, told["expected"], told["clickhouse_url"], servers, "kept")


def destinations() -> dict[str, str]:
    """Where the policy sends each class and purpose of the corpus."""
    policy = load_policy(POLICY)
    found = {}
    for classes, purpose, *_ in CLASSES:
        names = frozenset(classes.decode().split(","))
        found[f"{classes.decode()} {purpose.decode()}"] = policy.decide(
            names, purpose.decode()
        ).topic
    return found


def fill(bootstrap_servers: str, messages: int, shape: Shape) -> Corpus:
    """Make the topic anew and publish the corpus; its last messages lie some minutes back."""
    make_topics(bootstrap_servers, {TOPIC: shape.partitions})
    corpus = Corpus(messages, start_ms=start_ms(), shape=shape)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "linger.ms": 20,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 100_000,
        }
    )
    began_s = time.monotonic()
    for number, sample in enumerate(corpus.samples()):
        produce(producer, TOPIC, sample)
        if number % 1_000 == 0:
            producer.poll(0)
    assert not producer.flush(120)
    say(f"filled {TOPIC} with {messages:,} messages in {time.monotonic() - began_s:.1f} s")
    return corpus


def start_ms() -> int:
    """When the corpus begins, so that its last messages lie some minutes back."""
    return (int(time.time() // 60) - BEFORE_NOW_MIN) * MINUTE_MS


def produce(
    producer: Producer, topic: str, sample: Any, told: Callable[..., None] | None = None
) -> None:
    """Hand a sample over; `told` is called with an error or none, and the message."""
    while True:
        try:
            producer.produce(
                topic,
                sample.value,
                key=sample.key,
                partition=sample.partition,
                headers=sample.headers,
                timestamp=sample.timestamp_ms,
                on_delivery=told,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            return


def make_topics(bootstrap_servers: str, wanted: dict[str, int]) -> None:
    """Make topics that are not there yet.

    Errors: KafkaException for a topic that is: an old one has other contents.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    new = [NewTopic(name, partitions, 1) for name, partitions in wanted.items()]
    for name, made in admin.create_topics(new).items():
        try:
            made.result(30)
        except KafkaException as err:
            if err.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                say(f"topic {name} is there already: delete it, or name another broker")
            raise
