"""Kafka clients: their settings, and driver errors in our words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from schemas.errors import ConfigError, TransientError

_log = structlog.get_logger(__name__)
QUIET: Final = logging.getLogger("airside.librdkafka")
# librdkafka writes to standard error by itself unless it is given a logger. It repeats what the
# callbacks already tell us, so this logger has no handler.
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

_ATTEMPT_S: Final = 5.0
_SHORT: Final = 3


class Outage:
    """Logs once when the brokers are lost, and once when they are back.

    State: one flag; `seen()` is called whenever data moved.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._down = False

    def __call__(self, error: KafkaError) -> None:
        """The error callback of librdkafka: nothing here stops the client, it goes on trying."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._down:  # noqa: SLF001 - its name
            self._down = True
            _log.warning("kafka_lost", client=self._who, doing="retrying until it is back")

    @property
    def is_on(self) -> bool:
        """Whether the brokers were lost since the last `seen`."""
        return self._down

    def seen(self) -> None:
        """Note that the broker answered."""
        if self._down:
            self._down = False
            _log.info("kafka_found", client=self._who)


def client_config(bootstrap_servers: str, extra: Mapping[str, str]) -> dict[str, Any]:
    """Settings that all our clients share; `extra` may override them (security, for one).

    Errors: ConfigError for options in `extra` that librdkafka refuses, without their values.
    """
    if extra:
        _check_extra(tuple(sorted(extra.items())))
    return {
        "bootstrap.servers": bootstrap_servers,
        "client.id": "airside",
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 2_000,
        "log_level": 4,
        "logger": QUIET,
        **extra,
    }


@cache
def _check_extra(options: tuple[tuple[str, str], ...]) -> None:
    """Make a client of each kind that connects to nothing: librdkafka checks options then."""
    extra = {name: value for name, value in options if name != "bootstrap.servers"}
    quiet = {"logger": QUIET, "log_level": 0}
    try:
        Producer({**quiet, "enable.idempotence": True, "acks": "all", **extra})
        Consumer({**quiet, "group.id": "airside", **extra}).close()
    except KafkaException as err:
        found = err.args[0].str()
    except (TypeError, ValueError) as err:
        found = str(err)
    else:
        return
    for value in {*extra.values()} - {""}:
        found = found.replace(f'"{value}"', "…")
    if any(value in found for value in extra.values() if len(value) > _SHORT):
        found = "an option that librdkafka refuses"
    raise ConfigError(
        do="use",
        kind="setting",
        name="AIRSIDE_KAFKA__EXTRA",
        found=found,
        expected="names and values of librdkafka's CONFIGURATION.md",
    )


def read_metadata(
    client: Consumer | AdminClient,
    *,
    bootstrap_servers: str,
    tries: int,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Ask the cluster for its topics, a bounded number of times.

    Shapes: the client's `ClusterMetadata`, with `topics` by name.
    Errors: TransientError that says what was tried and what to do.
    """
    for attempt in range(1, tries + 1):
        try:
            return client.list_topics(timeout=_ATTEMPT_S)
        except KafkaException:
            if attempt < tries:
                _log.warning("kafka_not_reached", attempt=attempt, tries=tries)
                sleep(min(2.0**attempt / 4, 5.0))
    raise TransientError(
        do="reach",
        kind="Kafka broker",
        name=bootstrap_servers,
        found=f"no answer in {tries} tries of {_ATTEMPT_S:.0f} s",
        hint="check the address (AIRSIDE_KAFKA__BOOTSTRAP_SERVERS) and that the broker runs; "
        "`airside up` starts one here",
    )
