"""Read a lane's saved state, of this release or an earlier one."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.errors import PermanentError

STATE_VERSION: Final = 5
READABLE: Final = (1, 2, 3, 4, STATE_VERSION)


class _Versioned(msgspec.Struct):
    version: int


def version_of(dumped: bytes) -> int:
    """The version of a saved state.

    Errors: PermanentError for bytes without one.
    """
    try:
        return msgspec.msgpack.decode(dumped, type=_Versioned).version
    except (msgspec.MsgspecError, TypeError):
        raise unreadable("no state with a version") from None


def read_state(dumped: bytes) -> dict[str, Any]:
    """A state as it is today; parts that an earlier version did not have are None.

    Version 2 added looks at whether people differ, and how well is predicted at learning; version
    3 clusters of people, and in the model what they have learned of each; version 4 may name a
    journal for a model; version 5 may name one for plans and sends, which are one part there.
    Errors: PermanentError for a version that this release does not know.
    """
    version = version_of(dumped)
    if version not in READABLE:
        raise unreadable(f"version {version}")
    state: dict[str, Any] = msgspec.msgpack.decode(dumped)
    state.setdefault("progressive", None)
    state.setdefault("clusters", None)
    if "plans" in state:
        state["waiting"] = {name: state.pop(name) for name in ("plans", "feedback")}
    if state["lane"] >= 0:
        state["trial"].setdefault("rhythms", None)
    return state


def unreadable(found: str) -> PermanentError:
    """The error for what cannot be read."""
    return PermanentError(
        do="load",
        kind="state of",
        name="timing",
        found=found,
        expected="version " + " or ".join(map(str, READABLE)),
        hint="run the release that wrote it, or start from an empty data folder: what lanes "
        "published on airside.model.v1 starts it warm",
    )
