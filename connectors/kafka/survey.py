"""Look at a Kafka cluster without changing it: who it is, what it can do, what its topics hold."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import admin as kafka_admin
from confluent_kafka.admin import AdminClient

from connectors.kafka.client import client_config, read_metadata
from schemas.errors import TransientError

Place = tuple[str, int]

# The library does not mark these as its own, and leaves them untyped.
_Resource: Any = vars(kafka_admin)["ConfigResource"]
_Spec: Any = vars(kafka_admin)["OffsetSpec"]

EMBEDDED_CLUSTER: Final = "tansu_cluster"
"""What the embedded broker calls itself; it cannot be told to use another name."""

DESCRIBE_TRANSACTIONS: Final = 65
TRANSACTION_APIS: Final = (22, 24, 25, 26, 28, DESCRIBE_TRANSACTIONS)
"""InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit, Describe…"""

_FETCH: Final = 1
_TIMEOUT_S: Final = 10.0
_TRIES: Final = 4
_REST_S: Final = 0.5
_LISTEN_S: Final = 0.2
_LINES_MAX: Final = 20_000
_API: Final = re.compile(r"ApiKey \S+ \((\d+)\) Versions (\d+)\.\.(\d+)")


class TopicFacts(NamedTuple):
    """One topic: its partition count, and its settings; None when the broker keeps them back."""

    partitions: int
    config: Mapping[str, str] | None


class Cluster(NamedTuple):
    """What a client can learn of a cluster.

    Shapes: `apis` is by Kafka's number of the request the least and the greatest version that
    every broker we spoke to takes; empty when it could not be learned. `broker_config` is None
    when the broker keeps it back.
    """

    id: str
    brokers: int
    apis: Mapping[int, tuple[int, int]]
    broker_config: Mapping[str, str] | None
    topics: Mapping[str, TopicFacts]

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded broker."""
        return self.id == EMBEDDED_CLUSTER

    @property
    def release(self) -> str:
        """The Kafka release whose requests it takes, as near as they tell.

        Brokers do not state their release. Source: KIP-896 (Kafka 4.0 dropped Fetch below
        version 4), KIP-664 (Kafka 3.0 brought DescribeTransactions).
        """
        if self.is_embedded:
            return "the embedded broker"
        if not self.apis:
            return "a release that could not be learned"
        if self.apis.get(_FETCH, (0, 0))[0] >= 4:  # noqa: PLR2004 - see above
            return "Kafka 4.0 or newer by its requests"
        if DESCRIBE_TRANSACTIONS in self.apis:
            return "Kafka 3.0 to 3.9 by its requests"
        return "older than Kafka 3.0 by its requests, or no Kafka at all"


class Span(NamedTuple):
    """The offsets that a partition holds: from `low` to before `high`."""

    low: int
    high: int


class _Lines(logging.Handler):
    """Keeps what the client says of the broker's requests; a bounded number of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.apis: dict[int, tuple[int, int]] = {}
        self._left = _LINES_MAX

    def emit(self, record: logging.LogRecord) -> None:
        self._left -= 1
        found = _API.search(record.getMessage()) if self._left > 0 else None
        if found:
            number, least, most = map(int, found.groups())
            known = self.apis.get(number, (least, most))
            self.apis[number] = (max(least, known[0]), min(most, known[1]))


class KafkaSurvey:
    """Asks a cluster questions that change nothing, each within a bound.

    The requests that a broker takes are known to the client, which tells them in its debug log
    only. That is no interface: when its words change, `apis` stays empty.
    Errors: TransientError when the cluster does not answer.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        tries: int = 1,
        extra: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._servers = bootstrap_servers
        self._tries = tries
        self._sleep = sleep
        self._lines = _Lines()
        quiet: Any = logging.Logger("survey", logging.DEBUG)  # noqa: LOG001 - nobody else's ear
        quiet.addHandler(self._lines)
        shared = client_config(bootstrap_servers, extra or {})
        self._admin = AdminClient({**shared, "logger": quiet, "log_level": 7, "debug": "feature"})

    def cluster(self, topics: Iterable[str]) -> Cluster:
        """Who the cluster is, and the facts of those of the topics that it has."""
        metadata = read_metadata(self._admin, bootstrap_servers=self._servers, tries=self._tries)
        self._admin.poll(_LISTEN_S)
        there = {name: metadata.topics[name] for name in topics if name in metadata.topics}
        return Cluster(
            id=metadata.cluster_id or "",
            brokers=len(metadata.brokers),
            apis=dict(self._lines.apis),
            broker_config=self._config(
                _Resource.Type.BROKER, str(min(metadata.brokers, default=-1))
            ),
            topics={
                name: TopicFacts(len(found.partitions), self._config(_Resource.Type.TOPIC, name))
                for name, found in there.items()
                if found.error is None
            },
        )

    def _config(self, kind: Any, name: str) -> dict[str, str] | None:
        asked = self._admin.describe_configs([_Resource(kind, name)], request_timeout=_TIMEOUT_S)
        try:
            found = next(iter(asked.values())).result(timeout=_TIMEOUT_S)
        except (KafkaException, TimeoutError):
            return None
        return {name: entry.value for name, entry in found.items() if entry.value is not None}

    def spans(self, places: Iterable[Place]) -> dict[Place, Span]:
        """The offsets that each of these partitions holds."""
        places = list(places)
        lows = self._offsets(places, _Spec.earliest())
        highs = self._offsets(places, _Spec.latest())
        return {place: Span(lows[place].offset, highs[place].offset) for place in places}

    def newest_ms(self, places: Iterable[Place]) -> int | None:
        """The greatest timestamp among the records of these partitions; None without records."""
        found = self._offsets(list(places), _Spec.max_timestamp())
        return max((at.timestamp for at in found.values() if at.offset >= 0), default=None)

    def _offsets(self, places: list[Place], spec: Any) -> dict[Place, Any]:
        """Ask again while partitions move between brokers, as they do after a restart."""
        found = "nothing"
        for attempt in range(_TRIES if places else 0):
            if attempt:
                self._sleep(_REST_S)
            asked = self._admin.list_offsets(
                {TopicPartition(*place): spec for place in places}, request_timeout=_TIMEOUT_S
            )
            try:
                return {
                    (part.topic, part.partition): answer.result(timeout=2 * _TIMEOUT_S)
                    for part, answer in asked.items()
                }
            except KafkaException as err:
                found = f"Kafka error {err.args[0].name()}"
            except TimeoutError:
                found = "no answer"
        if not places:
            return {}
        raise TransientError(
            do="read",
            kind="offsets",
            where=f"at {self._servers}",
            found=f"{found} in {_TRIES} tries",
            hint="see the broker's log, and whether all partitions have a leader",
        )
