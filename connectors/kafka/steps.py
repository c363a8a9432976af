"""The steps of one lane's transactions: tried again where that is safe, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from connectors.kafka.transaction_errors import aborted, late, refused
from schemas.errors import AirsideError, TransientError

PAUSE_S: Final = 0.05
TRY_S: Final = 5.0
"""How long one try waits."""

STUCK_S: Final = 30.0
"""A try that is not back after so long never will be: librdkafka 2.16 looks at no clock where it
waits for a group's coordinator (its issue 5456)."""

# A group's coordinator is chosen when the group is first asked for; until then reads say so.
_PASSING: Final = frozenset(
    (
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    )
)


class Steps:
    """Calls of a lane's Kafka clients, with the errors that the lane raises.

    Units: `step_s_max` bounds how long one step is tried; `ends_s` is when all of them have to be
    done, by the steady clock.
    """

    def __init__(self, lane: int, *, timeout_s: float, step_s_max: float) -> None:
        self.lane = lane
        self.step_s_max = step_s_max
        self.ends_s = float("inf")
        self._timeout_s = timeout_s
        self._since_s: float | None = None

    def deadline_s(self) -> float:
        """When a step that begins now has to be done."""
        return min(time.monotonic() + self.step_s_max, self.ends_s)

    def call(self, what: str, call: Callable[[float], Any]) -> Any:
        """Call the client with the seconds to wait, and again where it says that this is safe.

        Errors: as of the sink; AbortedError for a commit that has to be aborted.
        """
        deadline_s = self.deadline_s()
        while True:
            try:
                return self._try(call)
            except KafkaException as err:
                error = err.args[0]
                if error.txn_requires_abort() and what == "commit":
                    raise aborted(self.lane, error) from None
                if not (error.retriable() or error.code() in _PASSING or _is_silence(what, error)):
                    raise self.refused(what, error) from None
                if time.monotonic() > deadline_s:
                    raise self.late(what, f"Kafka error {error.name()}") from None
                time.sleep(PAUSE_S)

    def _try(self, call: Callable[[float], Any]) -> Any:
        self._since_s = time.monotonic()
        try:
            return call(TRY_S)
        finally:
            self._since_s = None

    def stuck(self) -> AirsideError | None:
        """What to raise instead of waiting for a try in another thread that never comes back."""
        since_s = self._since_s
        if since_s is None or time.monotonic() - since_s < STUCK_S:
            return None
        found = "no return from librdkafka"
        return late("commit", self.lane, found, step_s_max=STUCK_S)

    def refused(self, what: str, error: KafkaError) -> AirsideError:
        """What the broker does not allow."""
        return refused(what, self.lane, error, timeout_s=self._timeout_s)

    def late(self, what: str, found: str) -> TransientError:
        """What took too long."""
        return late(what, self.lane, found, step_s_max=self.step_s_max)


def _is_silence(what: str, error: KafkaError) -> bool:
    """Whether a read had no answer: a coordinator that is busy, or one that waits for an end."""
    return what == "read" and error.code() == KafkaError._TIMED_OUT  # noqa: SLF001 - its name
