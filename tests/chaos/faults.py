"""All faults by name, each with what it needs; one is a function of the rig and of chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final, NamedTuple

from schemas.errors import ConfigError
from tests.chaos import faults_cells, faults_process, faults_store, faults_world
from tests.chaos.rig import Rig

CELL_POINTS: Final = (
    "loading",
    "after_read",
    "after_state",
    "before_sink_commit",
    "between_offsets_and_commit",
    "after_sink_commit",
    "before_insert",
    "after_insert",
    "in_snapshot",
    "draining",
)
"""Crash points that a cell passes; the one of a rescaling has faults of its own."""

Act = Callable[[Rig, Random], None]


def always(_rig: Rig) -> bool:
    """For every target."""
    return True


def in_cells(rig: Rig) -> bool:
    """For a target with a supervisor."""
    return rig.target.cells > 0


def keeps_no_decisions(rig: Rig) -> bool:
    """For a flow that may begin anew: without its state, delivery times are drawn anew."""
    return rig.target.flow == "ingest"


class Fault(NamedTuple):
    """One fault. `weight`: how often it is drawn, against the others; `once`: at most so."""

    name: str
    act: Act
    suits: Callable[[Rig], bool] = always
    weight: int = 4
    once: bool = False


def _crash(point: str) -> Fault:
    def act(rig: Rig, rng: Random) -> None:
        faults_process.crash_at(rig, rng, point)

    return Fault(f"crash_{point}", act, weight=3)


_FAULTS: Final = (
    Fault("kill", faults_process.kill, weight=8),
    Fault("kill_all", faults_process.kill_all),
    Fault("kill_supervisor", faults_cells.kill_supervisor, in_cells),
    Fault("sigterm", faults_process.sigterm),
    Fault("sigterm_twice", faults_process.sigterm_twice),
    Fault("sigint", faults_process.sigint),
    Fault("freeze", faults_process.freeze),
    Fault("zombie", faults_process.zombie, weight=2),
    Fault("hijack", faults_process.hijack, weight=2),
    Fault("second_instance", faults_process.second_instance, weight=2),
    *(_crash(point) for point in CELL_POINTS),
    Fault("rescale", faults_cells.rescale, in_cells, weight=8),
    Fault("rescale_stopped", faults_cells.rescale_stopped, in_cells),
    Fault("rescale_after_kill", faults_cells.rescale_after_kill, in_cells),
    Fault("kill_in_rescale", faults_cells.kill_in_rescale, in_cells),
    Fault("store_full", faults_store.store_full, weight=2),
    Fault("store_corrupt", faults_store.store_corrupt, weight=2),
    Fault("store_deleted", faults_store.store_deleted, keeps_no_decisions, weight=1, once=True),
    Fault("broker_restart", faults_world.broker_restart, weight=2),
    Fault("broker_kill", faults_world.broker_kill, weight=2),
    Fault("broker_pause", faults_world.broker_pause, weight=2),
    Fault("broker_pause_long", faults_world.broker_pause_long, weight=1),
    Fault("clickhouse_refuse", faults_world.clickhouse_refuse),
    Fault("clickhouse_slow", faults_world.clickhouse_slow),
    Fault("clickhouse_slow_kill", faults_world.clickhouse_slow_kill),
    Fault("clickhouse_timeout_after", faults_world.clickhouse_timeout_after),
    Fault("clickhouse_kill", faults_world.clickhouse_kill, weight=2),
    Fault("transaction_timeout", faults_world.transaction_timeout, weight=1),
    Fault("partitions_added", faults_world.partitions_added, weight=1, once=True),
    Fault("backlog", faults_world.backlog),
    Fault("skew", faults_world.skew),
    Fault("poison", faults_world.poison),
    Fault("repeats", faults_world.repeats),
    Fault("clock_jump", faults_world.clock_jump),
    Fault("clock_step", faults_world.clock_step, weight=2),
)
FAULTS: Final[Mapping[str, Fault]] = MappingProxyType({fault.name: fault for fault in _FAULTS})


NOT_OF_CLUSTERS: Final = frozenset(("second_instance", *(n for n in FAULTS if "store_" in n)))
"""Stores, and who may open them, are the engine's own concern in a cluster."""


def pick(names: str, *, cluster: bool = False) -> list[Fault]:
    """The faults of a list of names joined by commas; all that there are for an empty one.

    Errors: ConfigError for a name that is no fault.
    """
    known = [name for name in FAULTS if not (cluster and name in NOT_OF_CLUSTERS)]
    wanted = [name.strip() for name in names.split(",") if name.strip()] or known
    unknown = [name for name in wanted if name not in FAULTS]
    if unknown:
        raise ConfigError(
            do="pick", kind="fault", name=", ".join(unknown), expected=", ".join(FAULTS)
        )
    return [FAULTS[name] for name in wanted]
