"""Which partitions are a lane's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from confluent_kafka import Consumer

from connectors.kafka.client import read_metadata
from connectors.kafka.lane_state import Place, check_partitions, missing_topic

if TYPE_CHECKING:
    from connectors.kafka.lanes import LaneSource


class Shares:
    """One lane's share of the topics of its source: a fixed one, or the whole of shared topics."""

    def __init__(self, source: LaneSource, lane: int) -> None:
        self._source = source
        self._lane = lane
        self._topics: Collection[str] = (*source.tables, *source.streams)

    def count(self, consumer: Consumer) -> dict[str, int]:
        """How many partitions each topic has now.

        Errors: ConfigError for a topic that is not there, and as `check`; TransientError when the
        broker does not answer.
        """
        source = self._source
        metadata = read_metadata(
            consumer, bootstrap_servers=source.bootstrap_servers, tries=source.connect_tries
        )
        found = {
            topic: len(metadata.topics[topic].partitions)
            for topic in self._topics
            if topic in metadata.topics and metadata.topics[topic].error is None
        }
        for topic in self._topics:
            if topic not in found:
                raise missing_topic(topic, source.bootstrap_servers)
        self.check(found)
        return found

    def known(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Of the counts of a cluster those of our topics."""
        return {topic: counts.get(topic, 0) for topic in self._topics}

    def check(self, counts: Mapping[str, int]) -> None:
        """Make sure that these counts can be shared out. Errors: ConfigError naming them."""
        shared = self._source.shared
        check_partitions({t: n for t, n in counts.items() if t not in shared}, self._source.lanes)

    def places(self, counts: Mapping[str, int]) -> list[Place]:
        """The lane's partitions when the topics have so many."""
        lane, lanes, shared = self._lane, self._source.lanes, self._source.shared
        return [
            (topic, number)
            for topic, count in counts.items()
            for number in (range(count) if topic in shared else range(lane, count, lanes))
        ]
