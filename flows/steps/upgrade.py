"""Read a lane's state as any release saved it, brought up to the version of today."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from schemas.errors import PermanentError

STATE_VERSION: Final = 4
"""Of a lane gate's state. A change of its form needs a new number and a step in `UPGRADES`."""

State = dict[str, Any]


def _add_limit(state: State) -> State:
    """Version 2 counts what was quarantined; what came before was not counted."""
    empty = {"decided": 0, "ordinals": b"", "codes": b"", "runs": []}
    return {**state, "version": 2, "limit": empty}


def _add_arm(state: State) -> State:
    """Version 3 tells arms apart in rollup cells; what was folded in before has none.

    Those cells stay as they are. Once they are closed, `airside reconcile --repair` tells them
    apart by the facts.
    """
    rollup = state["rollup"]
    found = [None if parts is None else [*parts, ""] for parts in rollup["dimensions"]]
    return {**state, "version": 3, "rollup": {**rollup, "dimensions": found}}


def _allow_journal(state: State) -> State:
    """Version 4 may name a journal for what is remembered; before, all of it was in the state."""
    return {**state, "version": 4}


UPGRADES: Final[dict[int, Callable[[State], State]]] = {
    1: _add_limit,
    2: _add_arm,
    3: _allow_journal,
}
"""From each version that can be read to the next one."""


def read_state(dumped: bytes) -> State:
    """Decode a state and bring it up to `STATE_VERSION`.

    Errors: PermanentError for a state that this release cannot read, naming what to do.
    """
    try:
        state = msgspec.msgpack.decode(dumped, type=State)
    except msgspec.MsgspecError:
        raise _unreadable("bytes without a version") from None
    while state.get("version") != STATE_VERSION:
        version = state.get("version")
        if type(version) is not int or version not in UPGRADES:
            raise _unreadable(f"state version {version}")
        state = UPGRADES[version](state)
    return state


def _unreadable(found: str) -> PermanentError:
    known = ", ".join(str(number) for number in sorted(UPGRADES))
    return PermanentError(
        do="resume",
        kind="lane",
        found=found,
        expected=f"version {STATE_VERSION}, or one that can be brought up to it ({known})",
        hint="run the release that wrote it, or start from an empty data folder",
    )
