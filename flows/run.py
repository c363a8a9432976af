"""Run a dataflow in this process: recovery store, one instance, clean stop, errors in words."""

from __future__ import annotations

import fcntl
import gc
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from connectors.clickhouse.client import connect
from connectors.clickhouse.sink import TableSink
from connectors.clickhouse.writer import TableWriter
from connectors.clock import SystemClock
from connectors.kafka.lanes import LaneSource
from connectors.kafka.sink import RecordSink
from connectors.kafka.transactions import TransactionalSink
from connectors.metrics import MESSAGES, QUARANTINE_RUN, QUARANTINE_SHARE, WATERMARK, serve
from flows import ingest
from flows.settings import Settings
from flows.steps.gate import LaneGate
from schemas.blocks import Outputs
from schemas.errors import AirsideError, ConfigError

_log = structlog.get_logger(__name__)

RECOVERY_PARTS: Final = 1
MANIFEST: Final = "manifest.json"


class Stop:
    """A flag that SIGTERM and SIGINT set: lanes stop reading, the epoch ends, the process too."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.asked

    def listen(self) -> None:
        """Take over both signals in this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: Any) -> None:
        if not self.asked:
            _log.info("stop_asked", signal=signal.Signals(number).name)
        self.asked = True


@contextmanager
def recovery_store(
    folder: Path, *, flow_id: str, lanes: int, step_ids: Sequence[str]
) -> Iterator[RecoveryConfig]:
    """Open a flow's recovery store for this process alone, and make it at the first start.

    Errors: ConfigError when another process has it, or when it was made for another flow shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise ConfigError(
                do="open",
                kind="recovery store",
                name=flow_id,
                found="another process using it",
                hint="stop that one first, or set another AIRSIDE_DATA",
            ) from err
        shape = {"flow": flow_id, "lanes": lanes, "steps": list(step_ids)}
        manifest = folder / MANIFEST
        if manifest.exists():
            _compare(json.loads(manifest.read_text()), shape)
        else:
            init_db_dir(folder, RECOVERY_PARTS)
            manifest.write_text(json.dumps(shape))
        yield RecoveryConfig(folder, backup_interval=timedelta(0))


def _compare(found: dict[str, Any], shape: dict[str, Any]) -> None:
    for part, wanted in shape.items():
        if found.get(part) != wanted:
            raise ConfigError(
                do="resume",
                kind="recovery store",
                name=str(shape["flow"]),
                found=f"{part} {found.get(part)}",
                expected=f"{part} {wanted}",
                hint="start as it was made, or from an empty data folder",
            )


def watch_metrics(gate: LaneGate, outputs: Outputs) -> None:
    """Count a block's messages by door, and note how far the lane's event time and limit got."""
    for (door, code), count in outputs.counts.items():
        MESSAGES.labels(outputs.topic, door.value, code).inc(count)
    if gate.watermark_ms is not None:
        WATERMARK.labels(str(outputs.lane)).set(gate.watermark_ms / 1_000)
    QUARANTINE_RUN.labels(str(outputs.lane)).set(gate.limit.longest_run)
    QUARANTINE_SHARE.labels(str(outputs.lane)).set(gate.limit.share)


def make_ingest(settings: Settings, stop: Stop) -> Dataflow:
    """The ingest flow between Kafka and ClickHouse as the settings say.

    Errors: TransientError when one of them does not answer within its bound.
    """
    address = settings.clickhouse_address

    def make_writer() -> TableWriter:
        return TableWriter(
            connect(address),
            rows_max=settings.clickhouse.rows_max,
            retry_s_max=settings.clickhouse.retry_s_max,
        )

    kafka = settings.kafka
    source = LaneSource(
        bootstrap_servers=kafka.bootstrap_servers,
        lanes=settings.lanes,
        tables=ingest.TABLES,
        streams=ingest.STREAMS,
        clock=SystemClock(),
        stop=stop,
        block_messages_max=settings.block_messages_max,
        queue_kbytes_max=kafka.queue_kbytes_max,
        quiet_s=settings.time.quiet_s,
        ahead_s_max=settings.time.ahead_s_max,
        connect_tries=kafka.connect_tries,
        extra=kafka.extra,
    )
    connect(address).close()  # say so now, and not after the lanes were opened
    tables = TableSink(lanes=settings.lanes, make_writer=make_writer)
    return ingest.build(
        settings,
        source=source,
        records=make_record_sink(settings, ingest.FLOW_ID, (*ingest.TABLES, *ingest.STREAMS)),
        tables=tables,
        watch=watch_metrics,
    )


def make_record_sink(
    settings: Settings, flow_id: str, sources: Sequence[str]
) -> RecordSink | TransactionalSink:
    """The sink for the delivery that the settings ask for."""
    kafka = settings.kafka
    if kafka.delivery == "at_least_once":
        return RecordSink(
            bootstrap_servers=kafka.bootstrap_servers,
            lanes=settings.lanes,
            delivery_s_max=kafka.delivery_s_max,
            extra=kafka.extra,
        )
    return TransactionalSink(
        bootstrap_servers=kafka.bootstrap_servers,
        application=f"airside.{settings.node}.{flow_id}",
        lanes=settings.lanes,
        sources=sources,
        timeout_s=kafka.transaction_s_max,
        extra=kafka.extra,
    )


FLOWS: Final = {ingest.FLOW_ID: (make_ingest, ingest.STEP_IDS)}


def run_flow(name: str, settings: Settings) -> None:
    """Run one flow until it is told to stop.

    Errors: ConfigError, TransientError, PermanentError; the engine's wrapping is taken off.
    """
    make, step_ids = FLOWS[name]
    stop = Stop()
    stop.listen()
    if settings.metrics_port:
        serve(settings.metrics_port)
    folder = settings.data / "recovery" / name
    with recovery_store(folder, flow_id=name, lanes=settings.lanes, step_ids=step_ids) as recovery:
        flow = make(settings, stop)
        tune_garbage_collection()
        _log.info("flow_started", flow=name, lanes=settings.lanes, epoch_s=settings.epoch_s)
        try:
            cli_main(
                flow,
                epoch_interval=timedelta(seconds=settings.epoch_s),
                recovery_config=recovery,
            )
        except Exception as err:  # the outermost frame: the engine wraps what steps raise
            own = find_own_error(err)
            if own is None:
                raise
            raise own from err
    _log.info("flow_stopped", flow=name)


def tune_garbage_collection() -> None:
    """Look for reference cycles seldom: our blocks have none, and the search costs a third.

    Source: research/engine section 4, measured with and without.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def find_own_error(err: BaseException | None) -> AirsideError | None:
    """The first error of ours among an error and its causes."""
    while err is not None:
        if isinstance(err, AirsideError):
            return err
        err = err.__cause__ or err.__context__
    return None
