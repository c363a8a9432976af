"""Apache Kafka itself, one KRaft node from its Maven artifacts: needs Java, but no Docker."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self
from xml.etree import ElementTree as ET

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.embedded.child import Child, free_port
from schemas.errors import ConfigError, TransientError

POM: Final = Path(__file__).parents[1] / "infra" / "kafka" / "pom.xml"
LOG_CONFIG: Final = POM.with_name("log4j2.xml")
JAVA_MAJOR_MIN: Final = 17
MAVEN_SECONDS_MAX: Final = 600
START_SECONDS_MAX: Final = 60
STOP_SECONDS_MAX: Final = 30
START_TRIES_MAX: Final = 3
NO_RETENTION_MS: Final = str(7 * 24 * 3_600_000)
"""Between two looks for old records. Tests write records of all times, and retention goes by a
record's own: Kafka's five minutes would take those of the test that happens to run."""

SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One node holds everything, and few partitions keep its start short.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A transaction that its owner abandoned is aborted soon after its timeout, not 10 s later.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # After a crash the node may not register again before its old session ends: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.retention.check.interval.ms": NO_RETENTION_MS,
    "log.initial.task.delay.ms": NO_RETENTION_MS,
    # Room for the 4 MB body that the gate must refuse: it has to arrive first.
    "message.max.bytes": "8388608",
    "replica.fetch.max.bytes": "8388608",
}


@functools.cache
def kafka_version() -> str:
    """The release that `infra/kafka/pom.xml` pins."""
    found = ET.parse(POM).getroot().findtext("{*}properties/{*}kafka.version")
    assert found is not None
    return found


def find_java(env: Mapping[str, str]) -> str:
    """Name the Java program that would run: `JAVA_HOME` first, then the search path; or nothing."""
    home = env.get("JAVA_HOME", "")
    at_home = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    return at_home or shutil.which("java", path=env.get("PATH", "")) or ""


def java_major(version_text: str) -> int:
    """Read the feature release out of what `java -version` prints; 0 when it is not there."""
    found = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(found.group(1)) if found else 0


def maven_absence(env: Mapping[str, str]) -> str:
    """Say why Kafka cannot be run from Maven here; empty when it can."""
    java = find_java(env)
    if not java:
        return "no java found in JAVA_HOME or PATH"
    asked = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    major = java_major(asked.stderr + asked.stdout)
    if major < JAVA_MAJOR_MIN:
        return f"java is version {major}, Kafka 4 needs {JAVA_MAJOR_MIN}"
    if not jars_folder(env).is_dir() and not shutil.which("mvn", path=env.get("PATH", "")):
        return "no mvn found in PATH"
    return ""


def jars_folder(env: Mapping[str, str]) -> Path:
    """Where the jars are kept: `TEST_AIRSIDE_KAFKA_LIB`, or the user's cache, named by the pom."""
    if named := env.get("TEST_AIRSIDE_KAFKA_LIB"):
        return Path(named)
    cache = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return cache / "airside" / f"kafka-{kafka_version()}-{digest}"


def resolve_jars(env: Mapping[str, str]) -> Path:
    """Return the folder that holds Kafka's jars, fetching them through Maven the first time.

    Two runs at once are safe: each fetches beside the final folder, and the first rename wins.
    Errors: `ConfigError` with Maven's last line.
    """
    final = jars_folder(env)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".fetching-") as scratch:
        fetched = Path(scratch) / "lib"
        command = ["mvn", "-B", "-q", "-ntp", "-f", str(POM), "dependency:copy-dependencies"]
        ran = subprocess.run(
            [*command, f"-DoutputDirectory={fetched}"],
            capture_output=True,
            text=True,
            timeout=MAVEN_SECONDS_MAX,
            check=False,
        )
        if ran.returncode != 0 or not fetched.is_dir():
            raise ConfigError(
                do="fetch",
                kind="jars of Kafka",
                name=kafka_version(),
                found=(ran.stdout.strip() or ran.stderr.strip() or "nothing").splitlines()[0],
                expected="Maven to copy them",
                hint="run the command of infra/kafka/pom.xml by hand",
            )
        try:
            fetched.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    return final


class KafkaNode:
    """One Kafka 4 broker and controller on loopback, with its data in a folder.

    `restart` keeps ports and data; `kill` is a crash; `pause` freezes it with its sockets open.
    It never outlives the process that started it.
    Errors: `TransientError` when it did not come up, with the last lines of its log.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, heap_mb: int = 512
    ) -> None:
        self._folder = folder
        self._heap_mb = heap_mb
        self._settings = settings or {}
        self._child: Child | None = None
        self._ports = (0, 0)

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def process_group(self) -> int:
        """The group of processes that the running broker is in."""
        found = self._running.pid
        assert found is not None
        return found

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start the node, the first time with fresh ports and data; return when it answers."""
        if self._ports == (0, 0):
            self._start_somewhere()
        else:
            self._start_here()

    def stop(self) -> None:
        """Shut it down cleanly and leave no process; harmless when it does not run."""
        if self._child is not None and self._child.alive():
            self.resume()
            self._child.stop()

    def kill(self) -> None:
        """Crash it."""
        self._running.kill()

    def restart(self) -> None:
        """Stop cleanly and start again on the same ports and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        os.killpg(self.process_group, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`; harmless when it was not frozen."""
        os.killpg(self.process_group, signal.SIGCONT)

    @property
    def _running(self) -> Child:
        assert self._child is not None
        return self._child

    def _start_somewhere(self) -> None:
        for left in reversed(range(START_TRIES_MAX)):
            self._ports = (free_port(), free_port())
            self._format()
            try:
                self._start_here()
            except TransientError:
                # Somebody may have been faster at the port between finding it and using it.
                if not left or "BindException" not in self._log_tail():
                    raise
            else:
                return

    def _start_here(self) -> None:
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

        def answers() -> bool:
            try:
                return bool(client.list_topics(timeout=0.5).brokers)
            except KafkaException:
                return False

        self._child = Child(
            name="kafka",
            argv=self._java("kafka.Kafka", str(self._properties)),
            log_file=self._output,
            healthy=answers,
            start_s_max=START_SECONDS_MAX,
            stop_s_max=STOP_SECONDS_MAX,
        )
        try:
            self._child.start()
        except TransientError as error:
            raise self._failure("start") from error

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    @property
    def _output(self) -> Path:
        return self._folder / "output.log"

    def _format(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        clients, controller = (f"127.0.0.1:{port}" for port in self._ports)
        listeners = f"PLAINTEXT://{clients},CONTROLLER://{controller}"
        settings = {
            **SETTINGS,
            "controller.quorum.bootstrap.servers": controller,
            "listeners": listeners,
            "advertised.listeners": listeners,
            "log.dirs": str(self._folder / "data"),
            **self._settings,
        }
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # With an equals sign: an id may begin with a dash, which would read as the next option.
        options = ["--standalone", f"--cluster-id={cluster}", f"--config={self._properties}"]
        command = self._java("kafka.tools.StorageTool", "format", *options)
        with self._output.open("ab") as output:
            ran = subprocess.run(
                command, stdout=output, stderr=output, timeout=START_SECONDS_MAX, check=False
            )
        if ran.returncode != 0:
            raise self._failure("format")

    def _java(self, *program: str) -> list[str]:
        jars = resolve_jars(os.environ)
        return [
            find_java(os.environ),
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",  # least threads and memory on a small machine
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true",
            f"-Dkafka.logs.dir={self._folder}",
            f"-Dlog4j2.configurationFile={LOG_CONFIG.as_uri()}",
            "-cp",
            f"{jars}/*",
            *program,
        ]

    def _failure(self, verb: str) -> TransientError:
        return TransientError(
            do=verb,
            kind="Kafka",
            name=kafka_version(),
            where=f"at {self.bootstrap_servers}",
            found=self._log_tail() or "no answer and no word in its log",
            expected=f"an answer within {START_SECONDS_MAX} s",
        )

    def _log_tail(self) -> str:
        lines: list[str] = []
        for log in (self._folder / "server.log", self._output):
            if log.exists():
                told = log.read_text(errors="replace").splitlines()
                # Without the stack: what went wrong is on the lines between.
                lines += [line for line in told if not line.startswith("\t")][-5:]
        return " | ".join(lines)
