"""Flows for Bytewax's own cluster: `python -m bytewax.run "flows.cluster:ingest()" -i 0 -a ...`.

Every process of the cluster reads the same settings and gets SIGTERM to stop; the engine shares
the lanes out, so there are at most as many processes as lanes. There is no supervisor: what runs
the processes starts all of them again when one ends. The recovery store is the engine's option
`-r`, made by `python -m bytewax.recovery`.

Items cross from one process to another pickled; all that they are made of is in `schemas`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from bytewax.dataflow import Dataflow

from connectors.crash import arm
from connectors.recovery_write import forget_ahead
from connectors.tell import tell_pickling
from connectors.watchdog import Watchdog
from flows.cells import Cell, locked
from flows.garbage import tune_garbage_collection
from flows.log import set_up_log
from flows.run import Process, make_ingest
from flows.settings import read_settings
from flows.stop import Stop

_log = structlog.get_logger(__name__)


def ingest() -> Dataflow:
    """The ingest flow for this process of a cluster, with its signals and its watchdog.

    The watchdog also bounds how long this process waits for the others of its cluster.
    Errors: ConfigError, TransientError; they are in the log as well.
    """
    settings = read_settings()
    set_up_log(settings.log)
    arm(settings.crash_at)
    store = find_store(sys.argv[1:], os.environ)
    if store is not None:
        forget_what_was_not_durable(store, wait_s_max=settings.watchdog_s)
    stop = Stop()
    stop.listen()
    stop.listen_from_aside()
    watchdog = Watchdog(limit_s=settings.watchdog_s)
    joined = (lambda: None) if store is None else Use(store).begin
    flow = make_ingest(settings, Process(Cell(), stop, watchdog.beat, joined=joined))
    tell_pickling()
    tune_garbage_collection()
    watchdog.start()
    _log.info("flow_started", flow="ingest", lanes=settings.lanes)
    return flow


def find_store(arguments: Sequence[str], environ: Mapping[str, str]) -> Path | None:
    """The folder of the recovery store that the engine was started with.

    >>> find_store(["flows.cluster:ingest()", "-s", "5", "-r", "store"], {})
    PosixPath('store')
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-r", "--recovery-directory")
    told = parser.parse_known_args(arguments)[0].recovery_directory
    folder = told or environ.get("BYTEWAX_RECOVERY_DIRECTORY")
    return Path(folder) if folder else None


def forget_what_was_not_durable(store: Path, *, wait_s_max: float) -> None:
    """Remove from the engine's store what is left there of an epoch that did not end.

    Each process does so before it joins, once no process of an earlier start is in it any more:
    until all have joined, the engine writes nothing.
    Errors: TransientError when there still is one after `wait_s_max`, and those of `forget_ahead`.
    """
    told = {"kind": "recovery store", "name": store.name, "place": "recovery folder (-r)"}
    with locked(_sign(store), wait_s_max=wait_s_max, **told):
        removed = forget_ahead(store)
    if removed:
        _log.info("epoch_in_doubt", store=store.name, snapshots=removed, doing="repeated")


def _sign(store: Path) -> Path:
    """The file that processes in a store hold together, and who prepares it alone."""
    return store / "running"


class Use:
    """A process's use of a store, from when it has joined the others until it ends."""

    def __init__(self, store: Path) -> None:
        self._sign = _sign(store)
        self._held = -1

    def begin(self) -> None:
        """Hold it; waits only for those who prepare the store for a moment. Safe to repeat."""
        if self._held < 0:
            self._held = os.open(self._sign, os.O_RDONLY | os.O_CREAT, 0o644)
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def end(self) -> None:
        """Let it go, as the end of the process does."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
