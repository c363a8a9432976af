"""The command that gives a flow another number of cells, running or not."""

from __future__ import annotations

import time
from typing import Final

from flows.cells import Home, locked, replace_file
from flows.redistribute import redistribute
from flows.run import shape_of
from flows.settings import Settings
from schemas.errors import ConfigError, TransientError

_LOOK_S: Final = 0.1
_START_S_MAX: Final = 120.0


def rescale(name: str, settings: Settings, cells: int) -> str:
    """Give a flow `cells` cells; with a supervisor running, the new generation runs on return.

    Shapes: one sentence about what was done.
    Errors: ConfigError when there is nothing to rescale or too many cells; TransientError when
    the supervisor was not ready in time.
    """
    home = Home(settings.data, name)
    shape_of(name, settings, cells)
    try:
        with locked(home.run / "lock", kind="flow", name=name):
            return _rescale_stopped(home, cells)
    except ConfigError as err:
        lease = home.read_lease()
        if err.kind != "flow" or lease is None or not lease.children:
            raise
    home.refusal_file.unlink(missing_ok=True)
    replace_file(home.wish_file, b"%d" % cells)
    return _wait(home, settings, cells)


def _rescale_stopped(home: Home, cells: int) -> str:
    manifest = home.read_manifest()
    if manifest is None:
        raise ConfigError(
            do="rescale",
            kind="flow",
            name=home.flow_id,
            found="no recovery store",
            hint=f"start it with `airside run {home.flow_id} --cells {cells}`",
        )
    if manifest.cells == cells:
        return f"{home.flow_id} has {cells} cells already"
    redistribute(home, manifest, cells)
    return f"{home.flow_id} has {cells} cells now; it had {manifest.cells}, and does not run"


def _wait(home: Home, settings: Settings, cells: int) -> str:
    limit_s = settings.drain_s_max + _START_S_MAX
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if home.refusal_file.exists():
            raise TransientError(
                do="rescale",
                kind="flow",
                name=home.flow_id,
                found=home.refusal_file.read_text(),
                hint="it goes on as it was",
            )
        lease = home.read_lease()
        granted = not home.wish_file.exists()
        if granted and lease is not None and lease.cells == cells and lease.state == "running":
            return f"{home.flow_id} runs in {cells} cells, generation {lease.generation}"
        time.sleep(_LOOK_S)
    raise TransientError(
        do="rescale",
        kind="flow",
        name=home.flow_id,
        found=f"no generation of {cells} cells in {limit_s:.0f} s",
        hint="see the supervisor's log",
    )
