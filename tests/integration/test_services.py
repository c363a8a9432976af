"""The services behind the fixtures do what every other integration test takes for granted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from schemas.errors import TransientError
from tests.services import REQUIRE_KAFKA, Breakable, ClickHouseService, KafkaService, Kind
from tests.services_clients import make_topic, produce, read_committed
from tests.services_kafka import KafkaNode

HEADERS: list[tuple[str, str | bytes | None]] = [("ce_id", b"evt-00000001"), ("ce_type", b"a.b.v1")]
KEY = b"usr_00000001"
FOUR_MB = 4 * 1024 * 1024


@pytest.fixture
def maven_kafka(real_kafka: KafkaService, tmp_path: Path) -> Iterator[KafkaNode]:
    """A node that is not started yet; asks for `real_kafka` to skip with its reason."""
    if real_kafka.kind is not Kind.MAVEN:
        pytest.skip("needs Apache Kafka from Maven: this run uses containers")
    node = KafkaNode(tmp_path / "kafka")
    yield node
    node.stop()


def test_a_message_comes_back_with_its_key_headers_and_value(
    kafka: KafkaService, topic_prefix: str
) -> None:
    topic = make_topic(kafka.bootstrap_servers, f"{topic_prefix}echo")
    produce(kafka.bootstrap_servers, topic, b'{"n":1}', key=KEY, headers=HEADERS)

    [message] = read_committed(kafka.bootstrap_servers, topic, 1)

    assert b'{"n":1}' == message.value()
    assert KEY == message.key()
    assert HEADERS == message.headers()
    assert 0 == message.offset()


def test_a_body_of_four_megabytes_reaches_the_broker(
    real_kafka: KafkaService, topic_prefix: str
) -> None:
    topic = make_topic(real_kafka.bootstrap_servers, f"{topic_prefix}large")
    produce(
        real_kafka.bootstrap_servers,
        topic,
        b"x" * FOUR_MB,
        settings={"message.max.bytes": 2 * FOUR_MB},
    )

    [message] = read_committed(real_kafka.bootstrap_servers, topic, 1)

    assert b"x" * FOUR_MB == message.value()


def test_an_unknown_topic_is_refused_and_not_made(
    real_kafka: KafkaService, topic_prefix: str
) -> None:
    producer = Producer(
        {"bootstrap.servers": real_kafka.bootstrap_servers, "message.timeout.ms": 2_000}
    )
    failures: list[object] = []
    producer.produce(
        f"{topic_prefix}nowhere",
        value=b"1",
        on_delivery=lambda error, _message: failures.append(error),
    )
    producer.flush(30)

    assert [True] == [failure is not None for failure in failures]


def test_an_aborted_transaction_stays_invisible(
    real_kafka: KafkaService, topic_prefix: str
) -> None:
    assert real_kafka.has_transactions
    topic = make_topic(real_kafka.bootstrap_servers, f"{topic_prefix}exact")
    producer = Producer(
        {
            "bootstrap.servers": real_kafka.bootstrap_servers,
            "transactional.id": f"{topic_prefix}writer",
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, value=b"aborted")
    producer.flush(30)
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, value=b"committed")
    producer.commit_transaction(30)

    [message] = read_committed(real_kafka.bootstrap_servers, topic, 1)

    assert b"committed" == message.value()


def test_a_restarted_and_then_crashed_broker_keeps_its_address_and_its_messages(
    breakable_kafka: Breakable, topic_prefix: str
) -> None:
    address = breakable_kafka.bootstrap_servers
    topic = make_topic(address, f"{topic_prefix}kept")
    produce(address, topic, b"1")
    breakable_kafka.restart()
    produce(address, topic, b"2")
    breakable_kafka.kill()
    breakable_kafka.start()
    produce(address, topic, b"3")

    assert address == breakable_kafka.bootstrap_servers
    assert [b"1", b"2", b"3"] == [message.value() for message in read_committed(address, topic, 3)]


def test_a_frozen_broker_says_nothing_and_goes_on_where_it_was(
    breakable_kafka: Breakable, topic_prefix: str
) -> None:
    address = breakable_kafka.bootstrap_servers
    topic = make_topic(address, f"{topic_prefix}frozen")
    breakable_kafka.pause()
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=0.5)
    breakable_kafka.resume()
    produce(address, topic, b"1")

    assert [b"1"] == [message.value() for message in read_committed(address, topic, 1)]


def test_a_stopped_broker_leaves_no_process(maven_kafka: KafkaNode) -> None:
    maven_kafka.start()
    group = maven_kafka.process_group
    maven_kafka.pause()
    maven_kafka.stop()

    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_broker_that_cannot_start_says_why(maven_kafka: KafkaNode, tmp_path: Path) -> None:
    broken = KafkaNode(tmp_path / "broken", settings={"process.roles": "conductor"})

    with pytest.raises(TransientError, match="conductor"):
        broken.start()


def test_a_database_of_ones_own_is_empty_and_takes_rows(
    clickhouse_service: ClickHouseService, clickhouse_database: str
) -> None:
    client = clickhouse_connect.get_client(dsn=clickhouse_service.dsn, database=clickhouse_database)
    before = client.query("SHOW TABLES").result_rows
    client.command("CREATE TABLE seen (id String) ENGINE = MergeTree ORDER BY id")
    client.insert("seen", [["evt-00000001"]], column_names=["id"])
    after = client.query("SELECT id FROM seen").result_rows
    client.close()

    assert [] == before
    assert [("evt-00000001",)] == after


def test_kcat_reads_what_we_wrote(real_kafka: KafkaService, topic_prefix: str) -> None:
    """A client that is not ours sees the same bytes, headers included."""
    kcat = shutil.which("kcat")
    if kcat is None:
        if os.environ.get(REQUIRE_KAFKA) == "1":
            pytest.fail(f"{REQUIRE_KAFKA}=1 and no kcat in PATH", pytrace=False)
        pytest.skip("needs kcat in PATH (Debian's package kcat)")
    topic = make_topic(real_kafka.bootstrap_servers, f"{topic_prefix}kcat")
    produce(real_kafka.bootstrap_servers, topic, b'{"n":1}', key=KEY, headers=HEADERS)

    ran = subprocess.run(
        [kcat, "-b", real_kafka.bootstrap_servers, "-C", "-t", topic, "-e", "-q", "-f", "%k %h %s"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert 'usr_00000001 ce_id=evt-00000001,ce_type=a.b.v1 {"n":1}' == ran.stdout
