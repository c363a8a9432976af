"""Look for new partitions, and for ends of those that are read, without keeping a lane waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import KafkaException, TopicPartition

from connectors.kafka.lane_state import Place
from schemas.errors import ConfigError

_log = structlog.get_logger(__name__)

_FAILURES_MAX: Final = 3
"""Partitions without a leader that are asked for in one turn: each may take seconds."""

UNEVEN_LOOKS_MAX: Final = 10
"""Answers in a row with counts that do not fit before a lane stops: minutes, as lanes ask."""


class Answer(NamedTuple):
    """Partition counts by topic, and the ends of some partitions, as far as Kafka told them.

    Shapes: None and nothing where it did not answer.
    """

    counts: dict[str, int] | None
    ends: dict[Place, int]


class Scout:
    """A thread that asks for partition counts now and then; `take` gives the last answer once.

    It also asks for the ends of the `places`, by another client.
    Bound: one question at a time; a cluster that does not answer is asked again later.
    """

    def __init__(
        self,
        client: Any,
        every_s: float,
        *,
        places: Callable[[], list[Place]],
        make_other: Callable[[], Any],
    ) -> None:
        self._client = client
        self._make_other = make_other
        self._every_s = every_s
        self._places = places
        self._found: Answer | None = None
        self.uneven_looks = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lane-scout", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                metadata = self._client.list_topics(timeout=5.0)
                ends = self._ends()
            except (KafkaException, RuntimeError):
                # The cluster is away, or the client was closed under us.
                self._found = Answer(None, {})
                continue
            counts = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
            self._found = Answer(counts, ends)

    def _ends(self) -> dict[Place, int]:
        """What a lane that reads what is committed would reach, as far as Kafka tells.

        Asked by a client that was just made: one that stopped reading may not know whom to ask.
        """
        places = self._places()
        if not places:
            return {}
        other = self._make_other()
        try:
            return self._ask(other, places)
        finally:
            other.close()

    def _ask(self, client: Any, places: list[Place]) -> dict[Place, int]:
        ends: dict[Place, int] = {}
        failed = 0
        for place in places:
            if self._stopped.is_set() or failed >= _FAILURES_MAX:
                break
            try:
                end = client.get_watermark_offsets(TopicPartition(*place), timeout=5.0)[1]
            except KafkaException:
                failed += 1
            else:
                ends[place] = int(end)
        return ends

    def take(self) -> Answer | None:
        """The last answer, if it is a new one."""
        found, self._found = self._found, None
        return found

    def settled(self, check: Callable[[], None]) -> bool:
        """Tell whether the counts of the last answer fit; False while it is right to wait.

        Topics get their partitions one by one, so for a while their counts differ. Nothing is
        lost meanwhile: the new partitions are read from their beginning once all topics have them.
        Errors: what `check` raises, once the counts did not fit in `UNEVEN_LOOKS_MAX` answers.
        """
        try:
            check()
        except ConfigError as err:
            self.uneven_looks += 1
            if self.uneven_looks >= UNEVEN_LOOKS_MAX:
                raise
            if self.uneven_looks == 1:
                _log.warning("partitions_uneven", found=err.found, doing="waiting for the rest")
            return False
        self.uneven_looks = 0
        return True

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(timeout=10.0)
