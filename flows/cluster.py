"""Flows for Bytewax's own cluster: `python -m bytewax.run "flows.cluster:ingest()" -i 0 -a ...`.

Every process of the cluster reads the same settings and gets SIGTERM to stop; the engine shares
the lanes out, so there are at most as many processes as lanes. There is no supervisor: what runs
the processes starts all of them again when one ends. The recovery store is the engine's option
`-r`, made by `python -m bytewax.recovery`.

Items cross from one process to another pickled; all that they are made of is in `schemas`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import structlog
from bytewax.dataflow import Dataflow

from connectors.crash import arm
from connectors.recovery_write import forget_ahead
from connectors.tell import tell_pickling
from connectors.watchdog import Watchdog
from flows.cells import Cell
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
    forget_what_was_not_durable()
    stop = Stop()
    stop.listen()
    stop.listen_from_aside()
    watchdog = Watchdog(limit_s=settings.watchdog_s)
    flow = make_ingest(settings, Process(Cell(), stop, watchdog.beat))
    tell_pickling()
    tune_garbage_collection()
    watchdog.start()
    _log.info("flow_started", flow="ingest", lanes=settings.lanes)
    return flow


def forget_what_was_not_durable() -> None:
    """Remove from the engine's store what is left there of an epoch that did not end.

    Each process does so before it joins: until all have, the engine writes nothing.
    Errors: those of `forget_ahead`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-r", "--recovery-directory")
    told = parser.parse_known_args()[0].recovery_directory
    folder = told or os.environ.get("BYTEWAX_RECOVERY_DIRECTORY")
    if folder and forget_ahead(Path(folder)):
        _log.info("epoch_in_doubt", store=Path(folder).name, doing="repeated")
