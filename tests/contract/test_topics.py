"""The topics: complete, countable, and equal where they are joined."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from connectors.kafka.sink import RecordSink
from connectors.kafka.transactions import TransactionalSink
from schemas.errors import ConfigError
from schemas.ticket import HEADERS_BYTES_MAX
from schemas.topics_catalog import Topic, load_topics, read_topics
from tests.messages import settings

INPUTS = ("ntf.requests.v1", "ntf.delivery.v1", "ntf.engagement.v1", "ntf.profiles.v1")
EVENTS = (*INPUTS, "ntf.decisions.v1")
BODY_BYTES_CEILING = 4 * 1024 * 1024
STAMPS_BYTES_MAX = 4_096  # what a gate adds to the headers, the key, and the batch around them
RETENTION_DAYS = {"ntf.routed.pci.v1": 1, "ntf.quarantine.v1": 30, "ntf.late.v1": 7}
TOPIC = pytest.mark.parametrize("topic", load_topics().values(), ids=load_topics().keys())


def given(tmp_path: Path, *changes: dict[str, object]) -> list[Path]:
    """Write topic files that differ from a right one by these changes."""
    right = load_topics()["ntf.late.v1"].model_dump(mode="json")
    for number, change in enumerate(changes):
        content = {**right, "topic": f"ntf.t{'x' * number}.v1", **change}
        (tmp_path / f"{content['topic']}.yaml").write_text(yaml.safe_dump(content))
    return sorted(tmp_path.iterdir())


@TOPIC
def test_topic_has_owner_producers_consumers_and_a_purpose_in_a_sentence(topic: Topic) -> None:
    assert topic.owner
    assert topic.producers
    assert topic.consumers
    assert re.fullmatch(r"[A-Z].* .*\.", topic.purpose)


def test_topics_of_events_are_those_that_name_event_types() -> None:
    found = {topic.topic for topic in load_topics().values() if topic.event_types}

    assert set(EVENTS) == found


def test_versions_of_a_topic_count_from_one_without_gaps() -> None:
    versions: dict[str, set[int]] = defaultdict(set)
    for name in load_topics():
        base, _, version = name.rpartition(".v")
        versions[base].add(int(version))

    assert all(found == set(range(1, len(found) + 1)) for found in versions.values())


def test_output_topics_accept_nothing_from_producers() -> None:
    assert not load_topics()["ntf.routed.open.v1"].accepts("ntf.delivery.sent.v1")


@TOPIC
def test_the_largest_message_that_settings_allow_fits_every_topic_and_producer(
    topic: Topic,
) -> None:
    """Else one large body that is accepted would stop the worker at each start."""
    with pytest.raises(ConfigError, match="AIRSIDE_BODY_BYTES_MAX: Input should be less"):
        settings(body_bytes_max=BODY_BYTES_CEILING + 1)
    body = settings(body_bytes_max=BODY_BYTES_CEILING).body_bytes_max
    record = body + HEADERS_BYTES_MAX + STAMPS_BYTES_MAX
    sinks = (
        RecordSink(bootstrap_servers="-", lanes=1),
        TransactionalSink(bootstrap_servers="-", application="a", lanes=1, sources=[]),
    )

    assert record <= topic.max_message_bytes
    assert [True, True] == [
        topic.max_message_bytes <= sink.config["message.max.bytes"] for sink in sinks
    ]


def test_topic_accepts_whole_names_only() -> None:
    topic = load_topics()["ntf.delivery.v1"]

    assert topic.accepts("ntf.delivery.sent.v1")
    assert not topic.accepts("NTF.delivery.sent.v1")
    assert not topic.accepts("x.ntf.delivery.sent.v1")


@pytest.mark.parametrize(("name", "days"), RETENTION_DAYS.items())
def test_retention_is_written_in_milliseconds(name: str, days: int) -> None:
    config = load_topics()[name].kafka_config()

    assert str(days * 86_400_000) == config["retention.ms"]
    assert "delete" == config["cleanup.policy"]


def test_profiles_are_compacted_and_kept() -> None:
    config = load_topics()["ntf.profiles.v1"].kafka_config()

    assert ("compact", "-1") == (config["cleanup.policy"], config["retention.ms"])


def test_payment_and_personal_data_have_no_place_on_the_open_topic() -> None:
    allowed = set(load_topics()["ntf.routed.open.v1"].classes)

    assert not allowed & {"PII", "GDPR", "PCI", "PHI", "SPECIAL", "SECRET"}


def test_only_the_quarantine_may_hold_secrets() -> None:
    holding = [topic.topic for topic in load_topics().values() if "SECRET" in topic.classes]

    assert ["ntf.quarantine.v1"] == holding


def test_topics_that_are_joined_have_equally_many_partitions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found 6 partitions; expected 12, as ntf\.t\.v1 has"):
        read_topics(given(tmp_path, {}, {"partitions": 6}))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"owner": None}, "string type at owner"),
        ({"consumers": []}, "too short at consumers"),
        ({"colour": "red"}, "extra forbidden at colour"),
        ({"retention": "soon"}, "string pattern mismatch at retention"),
        ({"retention": "forever"}, "value error at the whole file"),
        ({"compaction": True}, "value error at the whole file"),
        ({"partitions": 0}, "greater than equal at partitions"),
        ({"classes": ["PUPLIC"]}, "literal error at classes.0"),
        ({"topic": "Ntf.T"}, "string pattern mismatch at topic"),
    ],
)
def test_wrong_topic_file_stops_the_start(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        read_topics(given(tmp_path, change))


def test_topic_file_is_named_after_its_topic(tmp_path: Path) -> None:
    (path,) = given(tmp_path, {})

    with pytest.raises(ConfigError, match="found another name inside"):
        read_topics([path.rename(tmp_path / "ntf.other.v1.yaml")])


def test_topic_file_that_is_no_yaml_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "ntf.t.v1.yaml"
    path.write_text("topic: [")

    with pytest.raises(ConfigError, match="found no YAML"):
        read_topics([path])
