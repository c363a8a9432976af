"""Say what went wrong where it went wrong: an engine between a step and its caller may lose it.

In a cluster the engine ends a process without the exception that caused it. So each callback
that the engine runs tells before it raises. Values of messages may be in an exception's text, so
of errors that are not ours only the type and the places in the code are told.
Source: research/engine section 2, fault (d).
"""

from __future__ import annotations

import functools
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from schemas.errors import AirsideError, PermanentError

_log = structlog.get_logger(__name__)

_FRAMES_MAX: Final = 12
_TOLD: Final = "told by airside"

P = ParamSpec("P")
R = TypeVar("R")


def tells(step: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a callback of the engine: an exception is logged once, and raised on."""

    def wrap(callback: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(callback)
        def told(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return callback(*args, **kwargs)
            except StopIteration:
                raise
            except Exception as err:  # the outermost frame that is ours; it raises on
                tell(step, err)
                raise

        return told

    return wrap


def tell_pickling() -> None:
    """Make the engine tell what it cannot exchange between processes.

    It looks both functions up by name whenever an item, or state to be saved, is pickled, and
    loses what they raise. So this replaces them for the process: for one of a cluster, no other.
    """
    for name in ("dumps", "loads"):
        setattr(pickle, name, _told_pickling(getattr(pickle, name)))


def _told_pickling(function: Callable[[Any], R]) -> Callable[[Any], R]:
    @functools.wraps(function)
    def told(item: Any, *args: Any, **kwargs: Any) -> R:
        try:
            return function(item, *args, **kwargs)
        except Exception as err:  # an engine's frame is next, and it keeps nothing
            error = PermanentError(
                do="exchange",
                kind="item",
                name=type(item).__name__,
                found=describe(err),
                expected="one that survives pickling",
                hint="run this flow in cells with `airside run`, and report this line",
            )
            tell("exchange", error)
            raise error from err

    return told


def tell(step: str, err: BaseException) -> None:
    """Log an exception, once."""
    if _TOLD in getattr(err, "__notes__", ()):
        return
    err.add_note(_TOLD)
    _log.error("step_failed", step=step, error=describe(err))


def describe(err: BaseException) -> str:
    """One line: our own errors in their words, others by type and places in the code."""
    if isinstance(err, AirsideError):
        return str(err)
    frames = traceback.extract_tb(err.__traceback__)[-_FRAMES_MAX:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return f"{type(err).__name__} at {' > '.join(places)}"
