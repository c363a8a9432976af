"""What the system can do already: faults that need more are left out, and that is said."""

from __future__ import annotations

import argparse
import functools
from typing import Final

from flows.__main__ import make_parser
from flows.settings import variables

PLAIN_POINTS: Final = (
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


@functools.cache
def options_of(command: str) -> frozenset[str]:
    """The options of one command; empty when there is no such command."""
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction) and command in action.choices:
            inner = action.choices[command]._actions
            return frozenset(option for part in inner for option in part.option_strings)
    return frozenset()


def has_cells() -> bool:
    """Whether one installation can run in several processes."""
    return "--cells" in options_of("run")


def has_rescale() -> bool:
    """Whether the number of cells can be changed."""
    return bool(options_of("rescale"))


def reads_crash_at() -> bool:
    """Whether the product arms crash points by its own variable."""
    return "AIRSIDE_CRASH_AT" in variables()
