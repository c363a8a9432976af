"""Look for new partitions without keeping a lane waiting."""

from __future__ import annotations

import threading
from typing import Any

from confluent_kafka import KafkaException


class Scout:
    """A thread that asks for partition counts now and then; `take` gives the last answer once.

    Bound: one question at a time; a cluster that does not answer is asked again later.
    """

    def __init__(self, client: Any, every_s: float) -> None:
        self._client = client
        self._every_s = every_s
        self._found: dict[str, int] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lane-scout", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                metadata = self._client.list_topics(timeout=5.0)
            except (KafkaException, RuntimeError):
                continue  # the cluster is away, or the client was closed under us
            self._found = {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def take(self) -> dict[str, int] | None:
        """Partition counts by topic, if new ones are there."""
        found, self._found = self._found, None
        return found

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(timeout=10.0)
