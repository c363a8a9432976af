"""Kafka and ClickHouse as a survey may find them, each fault seen by its own check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from connectors.clickhouse.migrations import read_migrations
from connectors.clickhouse.survey import VERSION_MIN, Database, column_faults, parse_version
from connectors.clickhouse.tables import TABLES
from connectors.clock import ManualClock
from connectors.kafka.survey import EMBEDDED_CLUSTER, TRANSACTION_APIS, Cluster, TopicFacts
from flows.doctor import check_clickhouse, check_kafka
from flows.doctor.examine import wanted_topics
from flows.doctor.finding import Finding, State
from flows.places import MIGRATIONS
from flows.settings import Settings
from schemas.errors import TransientError
from tests.messages import NOW_MS, policy, settings

WANTED = wanted_topics("ingest", policy())
MODERN = {1: (4, 18), **dict.fromkeys(TRANSACTION_APIS, (0, 5))}
OURS = read_migrations(MIGRATIONS)


def facts(name: str, **changes: str) -> TopicFacts:
    topic = WANTED.topics[name]
    return TopicFacts(topic.partitions, {**topic.kafka_config(), "segment.ms": "1", **changes})


def cluster(**changes: Any) -> Cluster:
    topics = {name: facts(name) for name in WANTED.topics}
    good = Cluster("c1", 3, MODERN, {"transaction.max.timeout.ms": "900000"}, topics)
    return good._replace(**changes)


def with_topic(name: str, found: TopicFacts) -> Cluster:
    return cluster(topics={**cluster().topics, name: found})


class FakeSurvey:
    def __init__(self, found: Cluster, newest_ms: int | None = NOW_MS) -> None:
        self._found = found
        self._newest_ms = newest_ms
        self.asked: list[Any] = []

    def cluster(self, topics: Any) -> Cluster:
        self.asked += topics
        return self._found

    def newest_ms(self, places: Any) -> int | None:
        self.asked += places
        if self._newest_ms == -1:
            raise away()
        return self._newest_ms


def away() -> TransientError:
    return TransientError(do="reach", kind="service", found="no answer", hint="check the address")


def kafka(found: Cluster, newest_ms: int | None = NOW_MS, **more: Any) -> dict[str, Finding]:
    survey: Any = FakeSurvey(found, newest_ms)
    clock = ManualClock(NOW_MS)
    findings, _ = check_kafka.check_kafka(settings(**more), WANTED, clock, lambda _: survey)
    assert list(check_kafka.NAMES) == [finding.name for finding in findings]
    return {finding.name: finding for finding in findings}


def states(findings: Mapping[str, Finding]) -> dict[str, State]:
    return {name: item.state for name, item in findings.items() if item.state is not State.OK}


def test_a_good_cluster_passes() -> None:
    found = kafka(cluster())

    assert {} == states(found)
    assert "Kafka 4.0 or newer" in found["kafka"].found


def test_a_cluster_that_does_not_answer_fails_once_and_leaves_the_rest_unchecked() -> None:
    def refuse(_: Settings) -> Any:
        raise away()

    findings, none = check_kafka.check_kafka(settings(), WANTED, ManualClock(), refuse)

    assert none is None
    assert ("kafka", State.FAIL, "check the address") == (*findings[0][:2], findings[0].do)
    assert {State.NOT_CHECKED} == {finding.state for finding in findings[1:]}
    assert {"Kafka is not reached"} == {finding.found for finding in findings[1:]}


@pytest.mark.parametrize(
    ("change", "state", "word"),
    [
        ({"id": EMBEDDED_CLUSTER}, State.FAIL, "at_least_once"),
        ({"broker_config": {"transaction.max.timeout.ms": "30000"}}, State.FAIL, "TRANSACTION_S"),
        ({"apis": {}}, State.WARN, "3.0 or newer"),
        ({"apis": {key: MODERN[key] for key in MODERN if key != 65}}, State.WARN, "hides aborted"),
    ],
)
def test_transactions_are_doubted(change: dict[str, Any], state: State, word: str) -> None:
    found = kafka(cluster(**change))["transactions"]

    assert state is found.state
    assert word in found.do
    calm = kafka(cluster(**change), kafka={"bootstrap_servers": "-", "delivery": "at_least_once"})
    assert State.OK is calm["transactions"].state


def test_a_broker_that_hides_its_settings_is_not_accused() -> None:
    assert {} == states(kafka(cluster(broker_config=None)))


@pytest.mark.parametrize(
    ("apis", "release"),
    [
        ({1: (0, 17), 65: (0, 0)}, "Kafka 3.0 to 3.9"),
        ({1: (0, 12)}, "older than Kafka 3.0"),
        ({}, "could not be learned"),
    ],
)
def test_the_release_is_read_from_the_requests(apis: Any, release: str) -> None:
    assert release in cluster(apis=apis).release


def test_missing_topics_fail_and_name_the_command() -> None:
    topics = cluster().topics
    late = kafka(cluster(topics={n: topics[n] for n in topics if n != "ntf.late.v1"}))
    assert {"topics": State.FAIL} == states(late)
    assert "airside topics apply" in late["topics"].do

    lost = kafka(cluster(topics={n: topics[n] for n in topics if n != "ntf.delivery.v1"}))
    assert {"topics": State.FAIL, "partitions": State.NOT_CHECKED} == states(lost)


def test_a_destination_that_nobody_described_must_be_there_too() -> None:
    bare = policy().model_copy(update={"destinations": ("ntf.elsewhere.v1",)})
    wanted = wanted_topics("ingest", bare)
    found = check_kafka.check_topics(cluster(), (*wanted.topics, *wanted.more))

    assert (State.FAIL, "missing: ntf.elsewhere.v1") == found[1:3]


def test_unequal_or_unfit_partition_counts_fail() -> None:
    unequal = kafka(with_topic("ntf.delivery.v1", facts("ntf.delivery.v1")._replace(partitions=8)))
    assert {"partitions": State.FAIL, "topic_settings": State.WARN} == states(unequal)
    assert "a multiple of 4 lanes" in unequal["partitions"].found

    assert {"partitions": State.FAIL} == states(kafka(cluster(), lanes=5))


@pytest.mark.parametrize(
    ("key", "value", "state"),
    [
        ("retention.ms", "3600000", State.WARN),
        ("max.message.bytes", "1000", State.WARN),
        ("cleanup.policy", "compact", State.FAIL),
    ],
)
def test_topics_that_are_kept_otherwise_are_named(key: str, value: str, state: State) -> None:
    found = kafka(with_topic("ntf.requests.v1", facts("ntf.requests.v1", **{key: value})))

    assert {"topic_settings": state} == states(found)
    assert f"ntf.requests.v1: {key} {value}, expected" in found["topic_settings"].found


def test_a_broker_that_does_not_tell_topic_settings_is_not_guessed_at() -> None:
    found = kafka(with_topic("ntf.requests.v1", TopicFacts(12, None)))

    assert {"topic_settings": State.NOT_CHECKED} == states(found)


def test_many_differences_are_counted() -> None:
    topics = {name: facts(name, **{"retention.ms": "5"}) for name in WANTED.topics}

    assert "; and 4 more" in kafka(cluster(topics=topics))["topic_settings"].found


def test_records_from_the_future_are_a_warning() -> None:
    assert {} == states(kafka(cluster(), NOW_MS + 300_000))
    assert {} == states(kafka(cluster(), None))
    assert {"record_times": State.WARN} == states(kafka(cluster(), NOW_MS + 300_001))
    assert {"record_times": State.NOT_CHECKED} == states(kafka(cluster(), -1))


def test_the_times_of_every_stream_partition_are_asked_for() -> None:
    survey: Any = FakeSurvey(cluster())
    known = check_kafka.KafkaFacts(cluster(), survey)
    check_kafka.check_record_times(known, WANTED.streams, settings(), ManualClock(NOW_MS))

    assert {(topic, n) for topic in WANTED.streams for n in range(12)} == set(survey.asked)


def columns() -> dict[str, dict[str, str]]:
    """The types that the migrations give, as ClickHouse writes them, for what we write."""
    names = {
        "string": "LowCardinality(String)",
        "timestamp[ms, tz=UTC]": "DateTime64(3, 'UTC')",
        "date32[day]": "Date32",
        "list<item: string>": "Array(LowCardinality(String))",
        "list<item: uint64>": "Array(UInt64)",
        "list<item: timestamp[ms, tz=UTC]>": "Array(DateTime64(3, 'UTC'))",
        "double": "Float64",
        "list<item: double>": "Array(Float64)",
        "fixed_size_binary[21]": "FixedString(21)",
        "bool": "Bool",
    }

    def kind(arrow: Any) -> str:
        text = str(arrow)
        other = text.replace("int", "Int").replace("u", "U")
        return "Array(Tuple(stage String))" if "struct" in text else names.get(text, other)

    return {
        table: {field.name: kind(field.type) for field in wanted.schema}
        for table, wanted in TABLES.items()
    }


def database(**changes: Any) -> Database:
    applied = {item.number: item.sha256 for item in OURS}
    return Database("26.9.2.1", 3.0, 8.0, applied, columns())._replace(**changes)


def clickhouse(found: Database) -> dict[str, Finding]:
    findings = check_clickhouse.check_clickhouse(settings(), ManualClock(), lambda *_: found)
    assert list(check_clickhouse.NAMES) == [finding.name for finding in findings]
    return {finding.name: finding for finding in findings}


def test_a_good_database_passes() -> None:
    assert {} == states(clickhouse(database()))


def test_a_database_that_does_not_answer_leaves_the_rest_unchecked() -> None:
    def refuse(*_: Any) -> Any:
        raise away()

    findings = check_clickhouse.check_clickhouse(settings(), ManualClock(), refuse)

    assert (State.FAIL, "check the address") == (findings[0].state, findings[0].do)
    assert {State.NOT_CHECKED} == {finding.state for finding in findings[1:]}


@pytest.mark.parametrize("version", ["25.6.9.1", "24.12", "", "x.y"])
def test_a_server_that_is_too_old_fails(version: str) -> None:
    assert parse_version("25.7.1") == VERSION_MIN
    assert {"clickhouse_version": State.FAIL} == states(clickhouse(database(version=version)))


def test_migrations_that_are_missing_edited_or_newer_are_told_apart() -> None:
    applied = {item.number: item.sha256 for item in OURS}
    nothing: tuple[Any, ...] = (None, {})
    for found in nothing:
        none = clickhouse(database(migrations=found))
        assert ("none applied", "run `airside migrate`") == none["migrations"][2:]
    first = clickhouse(database(migrations={1: applied[1]}))
    assert {"migrations": State.FAIL} == states(first)
    assert "0002_create_rollups.sql" in first["migrations"].found
    edited = clickhouse(database(migrations={**applied, 2: "other"}))
    assert "another content" in edited["migrations"].found
    newer = clickhouse(database(migrations={**applied, len(OURS) + 1: "x"}))
    assert {"migrations": State.WARN} == states(newer)


@pytest.mark.parametrize(
    ("table", "column", "kind", "fault"),
    [
        ("facts", "ver", "", "no column facts.ver"),
        ("facts", "ver", "String", "facts.ver is String"),
        ("facts", "hops", "Array(String)", "facts.hops is Array(String)"),
        ("facts", "category", "String", "facts.category is String"),
        ("facts", "category", "Array(UInt8)", "facts.category is Array(UInt8)"),
        ("fates", "n", "LowCardinality(UInt64)", ""),
        ("rollup_1m_lanes", "w", "DateTime('UTC')", ""),
    ],
)
def test_columns_are_compared_by_name_and_kind(
    table: str, column: str, kind: str, fault: str
) -> None:
    found = columns()
    if kind:
        found[table][column] = kind
    else:
        del found[table][column]

    assert [fault] * bool(fault) == list(column_faults(found))
    expected = {"columns": State.FAIL} if fault else {}
    assert expected == states(clickhouse(database(columns=found)))


def test_a_missing_table_is_one_fault() -> None:
    found = clickhouse(database(columns={}))["columns"]

    assert "no table facts; no table quarantine" in found.found
    assert "airside migrate" in found.do


def test_clocks_are_judged_by_what_the_round_trip_cannot_explain() -> None:
    assert {} == states(clickhouse(database(ahead_ms=-1_400.0, round_trip_ms=800.0)))
    behind = clickhouse(database(ahead_ms=-1_401.0, round_trip_ms=800.0))
    assert {"clock": State.WARN} == states(behind)
    assert "behind ours" in behind["clock"].found
    assert {"clock": State.FAIL} == states(clickhouse(database(ahead_ms=400_000.0)))
