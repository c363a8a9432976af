"""Named points at which a test can end this process as a crash would, by SIGKILL.

The points mark where a crash is hardest to survive: between two stores that must agree. They are
in the code that runs in production, since only there a test of them proves something; unarmed,
passing one costs a look at an empty dictionary.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from schemas.errors import ConfigError

POINTS: Final = frozenset(
    (
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
        "rescaling",
    )
)

_armed: dict[str, int] = {}


def arm(text: str) -> None:
    """Prepare one crash: `point`, or `point:4` for its fourth passage; empty text disarms.

    Errors: ConfigError for a point that does not exist.
    """
    _armed.clear()
    if not text:
        return
    point, _, count = text.partition(":")
    if point not in POINTS or not (count or "1").isdecimal() or int(count or 1) < 1:
        raise ConfigError(
            do="arm",
            kind="crash point",
            name=text,
            expected=f"one of {', '.join(sorted(POINTS))}, with or without :COUNT",
            hint="unset AIRSIDE_CRASH_AT outside of tests",
        )
    _armed[point] = int(count or 1)


def crash_point(name: str) -> None:
    """End this process here, if it was armed for this passage."""
    if name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
