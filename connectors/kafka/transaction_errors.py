"""What goes wrong with a lane's transactions, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError

from connectors.kafka.lane_state import Place
from schemas.errors import AirsideError, ConfigError, PermanentError, TransientError

_AHEAD: Final = "; the clock of this machine is ahead of Kafka's by an hour or more: set it right"
_SHOWN_MAX: Final = 20
_REPEATED: Final = "nothing is lost or doubled: the epoch is repeated at the next start"


class AbortedError(TransientError):
    """The transaction cannot be committed any more, but another one can."""


def refused(what: str, lane: int, error: KafkaError, *, timeout_s: float) -> AirsideError:
    """What the broker does not allow."""
    if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return ConfigError(
            do=what,
            kind="transaction of lane",
            name=str(lane),
            found=f"a broker that allows less than {timeout_s:g} s",
            expected="its transaction.max.timeout.ms to be at least "
            "AIRSIDE_KAFKA__TRANSACTION_S_MAX",
            hint="raise the first, or lower the second and AIRSIDE_CLICKHOUSE__RETRY_S_MAX",
        )
    return PermanentError(
        do=what,
        kind="transaction of lane",
        name=str(lane),
        found=f"Kafka error {error.name()}",
        hint=f"{_REPEATED}; another "
        "instance with the same AIRSIDE_NODE would cause this, too, and so would an epoch "
        "longer than AIRSIDE_KAFKA__TRANSACTION_S_MAX",
    )


def aborted(lane: int, error: KafkaError) -> AbortedError:
    """What had to be aborted, and may be written again."""
    return AbortedError(
        do="commit",
        kind="transaction of lane",
        name=str(lane),
        found=f"Kafka error {error.name()}, again and again",
        hint=_REPEATED + (_AHEAD if error.code() == KafkaError.INVALID_TIMESTAMP else ""),
    )


def late(what: str, lane: int, found: str, *, step_s_max: float) -> TransientError:
    """What took too long."""
    return TransientError(
        do=what,
        kind="transaction of lane",
        name=str(lane),
        found=f"{found} for {step_s_max:g} s",
        expected="an answer within AIRSIDE_KAFKA__DELIVERY_S_MAX",
        hint=_REPEATED,
    )


def not_restored(lane: int, first: Mapping[Place, int]) -> PermanentError:
    """What was committed, forgotten by Kafka, and taken by an abort."""
    told = [f"{topic}/{part} from offset {at}" for (topic, part), at in first.items()]
    more = f" and {len(told) - _SHOWN_MAX} more" if len(told) > _SHOWN_MAX else ""
    return PermanentError(
        do="write again",
        kind="records of lane",
        name=str(lane),
        found="an epoch that Kafka had committed and then aborted, "
        f"in {', '.join(told[:_SHOWN_MAX])}{more}",
        hint="these records are lost to readers of what is committed: read them there with "
        "read_uncommitted, by their airside-origin, and publish them again",
    )


def mixed(place: Place) -> PermanentError:
    """What nobody but a person can end rightly."""
    return PermanentError(
        do="end",
        kind="transaction in partition",
        name=f"{place[0]}/{place[1]}",
        found="records of a committed epoch and of one that was not, under one open transaction",
        hint="Kafka forgot two ends; nothing was written. Read both by their airside-origin, then "
        "end it by hand with kafka-transactions.sh",
    )
