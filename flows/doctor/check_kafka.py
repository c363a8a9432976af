"""Check whether Kafka answers, can do what is asked of it, and has the topics as described."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from connectors.clock import Clock
from connectors.kafka.lane_state import check_partitions
from connectors.kafka.survey import TRANSACTION_APIS, Cluster, KafkaSurvey, Place
from flows.doctor.finding import Finding, fail, not_checked, of_error, ok, warn
from flows.settings import Settings
from schemas.errors import AirsideError
from schemas.topics_catalog import Topic

NAMES: Final = ("kafka", "transactions", "topics", "partitions", "topic_settings", "record_times")

_SHOWN_MAX: Final = 5
_HARMFUL: Final = frozenset(("cleanup.policy",))
"""Settings that lose messages when they differ: a compacted stream, a table that is cut off."""


class Wanted(NamedTuple):
    """The topics of a flow.

    Shapes: `topics` are all that it reads or writes, as described; `more` are destinations of the
    policy that nobody described.
    """

    inputs: Sequence[str]
    streams: Sequence[str]
    topics: Mapping[str, Topic]
    more: Sequence[str] = ()


class KafkaFacts(NamedTuple):
    """A cluster that answered, and the means to ask it more."""

    cluster: Cluster
    survey: KafkaSurvey


def open_survey(settings: Settings) -> KafkaSurvey:
    """Open a survey of the Kafka of the settings; one try, since a person waits."""
    kafka = settings.kafka
    return KafkaSurvey(bootstrap_servers=kafka.bootstrap_servers, extra=kafka.extra)


def check_kafka(
    settings: Settings,
    wanted: Wanted,
    clock: Clock,
    open_: Callable[[Settings], KafkaSurvey] = open_survey,
) -> tuple[list[Finding], KafkaFacts | None]:
    """Everything about Kafka that does not need a recovery store."""
    try:
        survey = open_(settings)
        cluster = survey.cluster((*wanted.topics, *wanted.more))
    except AirsideError as err:
        return [of_error("kafka", err), *not_checked(NAMES[1:], "Kafka is not reached")], None
    facts = KafkaFacts(cluster, survey)
    findings = [
        ok("kafka", f"cluster {cluster.id}, brokers: {cluster.brokers}, {cluster.release}"),
        check_transactions(settings, cluster),
        check_topics(cluster, (*wanted.topics, *wanted.more)),
        check_shares(cluster, wanted.inputs, settings.lanes),
        check_topic_settings(cluster, wanted.topics),
        check_record_times(facts, wanted.streams, settings, clock),
    ]
    return findings, facts


def check_transactions(settings: Settings, cluster: Cluster) -> Finding:
    """Check whether the cluster can be trusted with exactly-once.

    That requests exist proves no more than that: whether aborted records stay hidden could only
    be seen by aborting some, and a look changes nothing. The embedded broker is known not to.
    """
    name = "transactions"
    if settings.kafka.delivery != "exactly_once":
        return ok(name, "not needed: at_least_once")
    if cluster.is_embedded:
        return fail(
            name,
            "the embedded broker, which shows aborted records to everyone",
            "set AIRSIDE_KAFKA__DELIVERY=at_least_once, or use Apache Kafka",
        )
    asked_ms = int(settings.kafka.transaction_s_max * 1_000)
    allowed_ms = int((cluster.broker_config or {}).get("transaction.max.timeout.ms", asked_ms))
    if asked_ms > allowed_ms:
        return fail(
            name,
            f"the broker allows {allowed_ms / 1_000:.0f} s for one; we ask for"
            f" {asked_ms / 1_000:.0f} s",
            "lower AIRSIDE_KAFKA__TRANSACTION_S_MAX, or raise transaction.max.timeout.ms",
        )
    if not cluster.apis:
        return warn(
            name,
            "could not learn which requests the broker takes",
            "make sure that it is Apache Kafka 3.0 or newer",
        )
    missing = [str(number) for number in TRANSACTION_APIS if number not in cluster.apis]
    if missing:
        return warn(
            name,
            f"the broker takes no request {', '.join(missing)}, as Apache Kafka 3.0 does",
            "make sure that it hides aborted records, or set AIRSIDE_KAFKA__DELIVERY=at_least_once",
        )
    return ok(name, "all their requests are there, which is as much as can be seen from outside")


def check_topics(cluster: Cluster, topics: Sequence[str]) -> Finding:
    """Check whether every topic is there."""
    missing = [name for name in topics if name not in cluster.topics]
    if missing:
        return fail(
            "topics",
            f"missing: {', '.join(missing)}",
            "run `airside topics apply`, which makes those of schemas/topics",
        )
    return ok("topics", f"{len(topics)} topics, all there")


def check_shares(cluster: Cluster, inputs: Sequence[str], lanes: int) -> Finding:
    """Check whether every key has one lane: equal counts, a multiple of the lanes."""
    missing = [name for name in inputs if name not in cluster.topics]
    if missing:
        return not_checked(["partitions"], f"no topic {', '.join(missing)}")[0]
    counts = {name: cluster.topics[name].partitions for name in inputs}
    try:
        check_partitions(counts, lanes)
    except AirsideError as err:
        return of_error("partitions", err)
    return ok("partitions", f"{counts[inputs[0]]} in each input topic, shared by {lanes} lanes")


def check_topic_settings(cluster: Cluster, topics: Mapping[str, Topic]) -> Finding:
    """Check whether the topics are kept as `schemas/topics` says."""
    name = "topic_settings"
    there = {topic: cluster.topics[topic] for topic in topics if topic in cluster.topics}
    untold = [topic for topic, facts in there.items() if not facts.config]
    if not there or untold:
        why = f"the broker does not tell those of {', '.join(untold)}" if untold else "no topics"
        return not_checked([name], why)[0]
    differences: list[str] = []
    harmful = False
    for topic, facts in there.items():
        config = facts.config or {}
        if facts.partitions != topics[topic].partitions:
            expected = topics[topic].partitions
            differences.append(f"{topic}: {facts.partitions} partitions, expected {expected}")
        for key, expected_text in topics[topic].kafka_config().items():
            found = config.get(key)
            if found is not None and found != expected_text:
                differences.append(f"{topic}: {key} {found}, expected {expected_text}")
                harmful = harmful or key in _HARMFUL
    if not differences:
        return ok(name, f"{len(there)} topics as schemas/topics describes them")
    rest = len(differences) - _SHOWN_MAX
    found = "; ".join(differences[:_SHOWN_MAX]) + (f"; and {rest} more" if rest > 0 else "")
    do = "alter the topics as described (`kafka-configs.sh --alter`), or change the description"
    return fail(name, found, do) if harmful else warn(name, found, do)


def check_record_times(
    facts: KafkaFacts, streams: Sequence[str], settings: Settings, clock: Clock
) -> Finding:
    """Check whether records come from the future, by our clock."""
    name = "record_times"
    cluster = facts.cluster
    if cluster.is_embedded:
        return not_checked([name], "the embedded broker cannot tell its newest record")[0]
    places: list[Place] = [
        (topic, number)
        for topic in streams
        if topic in cluster.topics
        for number in range(cluster.topics[topic].partitions)
    ]
    try:
        newest_ms = facts.survey.newest_ms(places)
    except AirsideError as err:
        return not_checked([name], of_error(name, err).found)[0]
    if newest_ms is None:
        return ok(name, "no records yet")
    ahead_s = (newest_ms - clock.now_ms()) / 1_000
    if ahead_s > settings.time.skew_s_max:
        return warn(
            name,
            f"the newest record is {ahead_s:,.0f} s ahead of our clock",
            "see the check `clock`: if our time is right, find the producer whose clock is not",
        )
    return ok(name, f"the newest record is {max(-ahead_s, 0):,.0f} s old")
