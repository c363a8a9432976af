"""Run a dataflow in this process: recovery store, one instance, clean stop, errors in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

import msgspec
import structlog
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from connectors.clickhouse.behind import BehindSink
from connectors.clickhouse.client import connect
from connectors.clickhouse.receipts import Receipts
from connectors.clickhouse.sink import TableSink
from connectors.clickhouse.writer import TableWriter
from connectors.clock import SystemClock
from connectors.crash import arm
from connectors.journal import Journals
from connectors.kafka.lanes import LaneSource
from connectors.metrics import (
    MESSAGES,
    QUARANTINE_RUN,
    QUARANTINE_SHARE,
    ROLLUP_CELLS,
    WATERMARK,
    serve,
)
from connectors.tell import describe
from connectors.watchdog import Watchdog
from flows import everything, follow, ingest
from flows.catalog import FLOWS, FOLLOWERS
from flows.cells import Cell, Home, Lease, Manifest, opened_store, owned, say_error
from flows.garbage import IdleCollector, tune_garbage_collection
from flows.settings import Settings
from flows.sinks import make_prompt_sink, make_record_sink
from flows.steps.gate import LaneGate
from flows.steps.keep import OpenJournal
from flows.stop import Stop
from schemas.blocks import Outputs
from schemas.errors import AirsideError, ConfigError, PermanentError, TransientError

_log = structlog.get_logger(__name__)

_EARLY: Final = 0.8
"""The share of an epoch after which its rows are handed over, so that few are left at its end."""

_EARLY_MIN_S: Final = 1.0
"""Shorter epochs hand over at their ends only: half as many inserts."""


class Process(NamedTuple):
    """What a flow is told about the process it runs in.

    `journals` opens those beside the recovery store; None where no folder belongs to it alone.
    `joined` is called when the engine shares lanes out: all processes of it are there then.
    """

    cell: Cell
    stop: Stop
    beat: Callable[[], None] = lambda: None
    journals: OpenJournal | None = None
    joined: Callable[[], None] = lambda: None


def watch_metrics(gate: LaneGate, outputs: Outputs) -> None:
    """Count a block's messages by door, and note how far the lane's event time and limit got."""
    for (door, code), count in outputs.counts.items():
        MESSAGES.labels(outputs.topic, door.value, code).inc(count)
    ROLLUP_CELLS.labels(str(outputs.lane)).set(len(gate.rollup))
    if gate.watermark_ms is not None:
        WATERMARK.labels(str(outputs.lane)).set(gate.watermark_ms / 1_000)
    QUARANTINE_RUN.labels(str(outputs.lane)).set(gate.limit.longest_run)
    QUARANTINE_SHARE.labels(str(outputs.lane)).set(gate.limit.share)


def make_source(
    settings: Settings,
    process: Process,
    flow_id: str,
    *,
    tables: Sequence[str],
    streams: Sequence[str],
    shared: Sequence[str] = (),
) -> LaneSource:
    """The lanes of this process, from these topics.

    Errors: TransientError when Kafka does not answer within its bound.
    """
    kafka = settings.kafka
    garbage = IdleCollector()

    def note_durable() -> None:
        process.beat()
        garbage.end_epoch()

    return LaneSource(
        bootstrap_servers=kafka.bootstrap_servers,
        lanes=settings.lanes,
        own=process.cell.lanes(settings.lanes),
        tables=tables,
        streams=streams,
        shared=shared,
        clock=SystemClock(),
        stop=process.stop,
        order_folder=Home(settings.data, flow_id).stores / "order",
        on_durable=note_durable,
        on_idle=garbage.rest,
        on_joined=process.joined,
        block_messages_max=settings.block_messages_max,
        epoch_messages_max=settings.epoch_messages_max,
        queue_kbytes_max=kafka.queue_kbytes_max,
        quiet_s=settings.time.quiet_s,
        ahead_s_max=settings.time.ahead_s_max,
        connect_tries=kafka.connect_tries,
        level=kafka.level,
        extra=kafka.extra,
    )


def make_table_sink(settings: Settings, process: Process) -> TableSink:
    """The tables of this process.

    Errors: TransientError when ClickHouse does not answer: said now, not after lanes were opened.
    """
    return TableSink(
        lanes=settings.lanes,
        own=process.cell.lanes(settings.lanes),
        make_writer=_make_writer(settings, process, on_wait=process.beat),
    )


def make_behind_sink(
    settings: Settings, process: Process, flow_id: str, source: LaneSource
) -> BehindSink:
    """The same where nobody may wait for ClickHouse.

    Errors: as `make_table_sink`.
    """
    return BehindSink(
        lanes=settings.lanes,
        own=process.cell.lanes(settings.lanes),
        # Behind the flow another thread waits; the flow's own says that it lives.
        make_writer=_make_writer(settings, process, on_wait=lambda: None),
        rows_max=settings.clickhouse.rows_max,
        wait_s_max=settings.wait_s_max,
        early_s=_EARLY * settings.epoch_s if settings.epoch_s >= _EARLY_MIN_S else float("inf"),
        # A repeated epoch must make the same rows, so its order has to outlive them.
        before_early=source.sync_notes,
        stop=process.stop,
        on_wait=process.beat,
        receipts=Receipts(
            Home(settings.data, flow_id).stores / "confirmed",
            store=f"{settings.clickhouse.url} {settings.clickhouse.database}",
        ),
    )


def _make_writer(
    settings: Settings, process: Process, *, on_wait: Callable[[], None]
) -> Callable[[], TableWriter]:
    address = settings.clickhouse_address
    connect(address).close()
    return lambda: TableWriter(
        connect(address),
        rows_max=settings.clickhouse.rows_max,
        retry_s_max=settings.clickhouse.retry_s_max,
        stop=process.stop,
        # The rest of the time is for what else has to end.
        stop_s_max=settings.drain_s_max / 2,
        on_wait=on_wait,
    )


def make_ingest(settings: Settings, process: Process) -> Dataflow:
    """The ingest flow between Kafka and ClickHouse as the settings say.

    Errors: TransientError when one of them does not answer within its bound.
    """
    own = process.cell.lanes(settings.lanes)
    source = make_source(
        settings, process, ingest.FLOW_ID, tables=ingest.TABLES, streams=ingest.STREAMS
    )
    tables = make_table_sink(settings, process)
    return ingest.build(
        settings,
        source=source,
        records=make_record_sink(
            settings, ingest.FLOW_ID, own=own, sources=(*ingest.TABLES, *ingest.STREAMS)
        ),
        tables=tables,
        watch=watch_metrics,
        journals=process.journals,
    )


def _make_sinks(
    settings: Settings,
    process: Process,
    flow_id: str,
    source: LaneSource,
    sources: Sequence[str],
) -> follow.Sinks:
    own = process.cell.lanes(settings.lanes)
    tables = make_behind_sink(settings, process, flow_id, source)
    return follow.Sinks(
        records=make_record_sink(
            settings, flow_id, own=own, sources=sources, meanwhile=tables.put_down
        ),
        prompt=make_prompt_sink(settings, own=own, linger_ms=0),
        tables=tables,
    )


def make_follower(name: str, settings: Settings, process: Process) -> Dataflow:
    """A follower as a flow of its own, from the routed topics.

    Errors: as `make_ingest`.
    """
    source = make_source(
        settings,
        process,
        name,
        tables=follow.TABLES,
        streams=follow.STREAMS,
        shared=follow.SHARED,
    )
    sinks = _make_sinks(settings, process, name, source, (*follow.TABLES, *follow.STREAMS))
    step = FOLLOWERS[name](settings)
    return follow.build(name, settings, step, source=source, sinks=sinks, journals=process.journals)


def make_everything(settings: Settings, process: Process) -> Dataflow:
    """The gate and all followers in one process.

    Errors: as `make_ingest`.
    """
    name = everything.FLOW_ID
    source = make_source(
        settings,
        process,
        name,
        tables=follow.TABLES,
        streams=ingest.STREAMS,
        shared=follow.SHARED,
    )
    sinks = _make_sinks(settings, process, name, source, (*follow.TABLES, *ingest.STREAMS))
    steps = [make(settings) for make in FOLLOWERS.values()]
    return everything.build(
        settings,
        steps,
        source=source,
        sinks=sinks,
        watch=watch_metrics,
        journals=process.journals,
    )


MAKERS: Final[dict[str, Callable[[Settings, Process], Dataflow]]] = {
    ingest.FLOW_ID: make_ingest,
    everything.FLOW_ID: make_everything,
    **{name: partial(make_follower, name) for name in FOLLOWERS},
}


def shape_of(name: str, settings: Settings, cells: int) -> Manifest:
    """What a flow's recovery stores have to be made for.

    Errors: ConfigError for more cells than lanes.
    """
    if cells > settings.lanes:
        raise ConfigError(
            do="run",
            kind="flow",
            name=name,
            found=f"{cells} cells",
            expected=f"at most {settings.lanes}, one for each lane (AIRSIDE_LANES)",
        )
    steps = tuple(FLOWS[name].step_ids)
    return Manifest(name, settings.lanes, steps, cells, node=settings.node)


def run_flow(name: str, settings: Settings) -> None:
    """Run one flow as a single cell, until it is told to stop.

    Errors: ConfigError, TransientError, PermanentError; the engine's wrapping is taken off.
    """
    home = Home(settings.data, name)
    cell = Cell()
    with owned(home, shape_of(name, settings, cell.cells)) as manifest:
        lease = Lease(manifest.generation, cell.cells, os.getpid(), "running", {})
        home.write_lease(lease)
        try:
            run_cell(name, settings, cell, generation=manifest.generation)
        finally:
            home.write_lease(msgspec.structs.replace(lease, state="stopped"))


def run_cell(
    name: str, settings: Settings, cell: Cell, *, generation: int, wait_s_max: float = 0.0
) -> None:
    """Run one cell of a flow in this process; what ends it is also left for the exit report.

    Errors: as `run_flow`; what is no error of ours becomes a PermanentError that names its type
    and places, without the text, which may hold values.
    """
    home = Home(settings.data, name)
    structlog.contextvars.bind_contextvars(cell=cell.number, generation=generation)
    home.error_file(cell).unlink(missing_ok=True)
    arm(settings.crash_at)
    watchdog = Watchdog(
        limit_s=settings.watchdog_s,
        sign=home.sign(cell),
        say=lambda error: say_error(home, cell, {"pid": os.getpid(), "error": error}),
    )
    try:
        with opened_store(home, cell, generation=generation, wait_s_max=wait_s_max) as store:
            watchdog.start()
            journals = Journals(home.stores / "journals")
            process = Process(cell, Stop(), watchdog.beat, journals.open)
            _run_engine(name, settings, process, store)
    except Exception as err:  # the outermost frame: the engine wraps what steps raise
        own = find_own_error(err) or _defect(name, err)
        say_error(home, cell, {"pid": os.getpid(), "error": str(own)})
        raise own from err
    finally:
        watchdog.stop()
    _log.info("flow_stopped", flow=name)


def _run_engine(name: str, settings: Settings, process: Process, store: RecoveryConfig) -> None:
    process.stop.listen()
    if settings.metrics_port:
        serve(settings.metrics_port + process.cell.number)
    flow = MAKERS[name](settings, process)
    tune_garbage_collection()
    lanes = len(process.cell.lanes(settings.lanes))
    _log.info("flow_started", flow=name, lanes=lanes, epoch_s=settings.epoch_s)
    cli_main(flow, epoch_interval=timedelta(seconds=settings.epoch_s), recovery_config=store)


_DISK: Final = ("database or disk is full", "disk I/O error", "unable to open database file")


def _defect(name: str, err: BaseException) -> AirsideError:
    root = err
    while (deeper := root.__cause__ or root.__context__) is not None:
        root = deeper
    # The engine gives SQLite's words about its store, and nothing else to tell it by.
    for words in _DISK:
        if words in str(root):
            return TransientError(
                do="save",
                kind="recovery store",
                name=name,
                found=words,
                hint="make room on the disk of AIRSIDE_DATA; nothing is lost: the epoch is "
                "repeated at the next start",
            )
    return PermanentError(
        do="run",
        kind="flow",
        name=name,
        found=describe(root),
        hint="nothing is lost: the epoch is repeated at the next start; report this line",
    )


def find_own_error(err: BaseException | None) -> AirsideError | None:
    """The first error of ours among an error and its causes."""
    while err is not None:
        if isinstance(err, AirsideError):
            return err
        err = err.__cause__ or err.__context__
    return None
