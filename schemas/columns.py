"""Check and read columns of header values: what many messages have under one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.few import are_few
from schemas.ticket import format_time, parse_time
from schemas.tickets import NO_TIME, Numbers

Values = Sequence[bytes | None]

Fits = Callable[[bytes, int], bool]
"""Tells of some values, joined by line feeds, whether all fit."""

WORD_BYTES_MAX: Final = 64
TIME_BYTES_MAX: Final = len("1970-01-01T00:00:00.123456789+00:00")
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ID_BYTES: Final = _LETTERS + b"_-"
_NAME_BYTES: Final = _LETTERS + b"_.:-"
_HEX_BYTES: Final = b"0123456789abcdef-"
_TIME_BYTES: Final = len("1970-01-01T00:00:00.000Z")
_TRACE_BYTES: Final = 55
_TRACE_MARKS: Final = (2, 35, 52)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 86_400_000
_CANONICAL_MARKS: Final = (
    (4, "-"),
    (7, "-"),
    (10, "T"),
    (13, ":"),
    (16, ":"),
    (19, "."),
    (23, "Z"),
)
_CANONICAL_DIGITS: Final = (0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22)
_LINE_FEED: Final = ord("\n")


def join(values: Values) -> bytes | None:
    """The values with a line feed between them; None where one is null or has a line feed."""
    try:
        joined = b"\n".join(values)  # type: ignore[arg-type] # it refuses null
    except TypeError:
        return None
    return joined if joined.count(b"\n") < len(values) else None


def split(joined: bytes) -> list[bytes]:
    """What was joined."""
    return joined.split(b"\n")


def split_words(joined: bytes) -> list[str]:
    """What was joined, as texts. Shapes: all of it is ASCII."""
    return joined.decode("ascii").split("\n")


def strangers(values: Values, fits: Fits, first: int = 0) -> list[int]:
    """The places of values that do not fit; halves that fit as a whole are not looked into."""
    joined = join(values)
    if joined is not None and fits(joined, len(values)):
        return []
    if len(values) == 1:
        return [first]
    half = len(values) // 2
    return [
        *strangers(values[:half], fits, first),
        *strangers(values[half:], fits, first + half),
    ]


def are_ids(joined: bytes, size: int) -> bool:
    """Tell whether all have the form of an id."""
    return _are_words(joined, size, _ID_BYTES, 8)


def are_names(joined: bytes, size: int) -> bool:
    """Tell whether all have the form of a name."""
    return _are_words(joined, size, _NAME_BYTES, 1)


def _are_words(joined: bytes, size: int, letters: bytes, shortest: int) -> bool:
    # Nothing but the line feeds between them may be left.
    if len(joined.translate(None, letters)) >= size:
        return False
    ends = np.flatnonzero(np.frombuffer(b"\n%b\n" % joined, np.uint8) == _LINE_FEED)
    sizes = np.diff(ends) - 1
    return bool(shortest <= sizes.min() and sizes.max() <= WORD_BYTES_MAX)


def are_traces(joined: bytes, size: int) -> bool:
    """Tell whether all are W3C trace parents of version 00."""
    text = _table(joined, size, _TRACE_BYTES)
    return text is not None and bool(
        not joined.translate(None, _HEX_BYTES + b"\n")
        and joined.count(b"-") == size * len(_TRACE_MARKS)
        and (text[:, _TRACE_MARKS] == ord("-")).all()
        and (text[:, :2] == ord("0")).all()
    )


def _table(joined: bytes, size: int, width: int) -> npt.NDArray[np.uint8] | None:
    """Values of one width as rows, with the line feed behind each; None where they have others."""
    if len(joined) != size * (width + 1) - 1:
        return None
    text = np.frombuffer(b"%b\n" % joined, np.uint8).reshape(size, width + 1)
    return text if bool((text[:, width] == _LINE_FEED).all()) else None


def are_plain(joined: bytes, _size: int) -> bool:
    """Tell whether all are ASCII."""
    return joined.isascii()


def encode_all(words: Sequence[str]) -> list[bytes]:
    """ASCII texts as bytes. Shapes: none has a line feed."""
    return "\n".join(words).encode("ascii").split(b"\n") if words else []


def parse_times(values: Values) -> Numbers:
    """Read RFC 3339 times, all at once where they have their canonical form.

    Units: milliseconds since 1970 UTC; `NO_TIME` for what cannot be read.
    """
    found = None if are_few(values) else parse_canonical(join(values), len(values))
    if found is None:
        found = np.full(len(values), NO_TIME, np.int64)
    for place in np.flatnonzero(found == NO_TIME).tolist():
        at_ms = parse_time(values[place] or b"")
        found[place] = NO_TIME if at_ms is None else at_ms
    return found


def parse_canonical(joined: bytes | None, size: int) -> Numbers | None:
    """Read times of the form `1970-01-01T00:00:00.000Z`, joined.

    Shapes: `NO_TIME` for others of their length; None where not all have it.
    """
    table = None if joined is None else _table(joined, size, _TIME_BYTES)
    if table is None:
        return None
    text = np.ascontiguousarray(table.T)
    right: npt.NDArray[np.bool_] = np.ones(size, np.bool_)
    for place, mark in _CANONICAL_MARKS:
        right &= text[place] == ord(mark)
    digits = text - ord("0")
    for place in _CANONICAL_DIGITS:
        right &= digits[place] <= 9  # noqa: PLR2004 - a digit; what lies before 0 wraps round

    def number(first: int, size: int) -> npt.NDArray[np.int32]:
        found: npt.NDArray[np.int32] = digits[first].astype(np.int32)
        for digit in digits[first + 1 : first + size]:
            found = found * 10 + digit
        return found

    hours, minutes, seconds = number(11, 2), number(14, 2), number(17, 2)
    right &= (hours < 24) & (minutes < 60) & (seconds < 60)  # noqa: PLR2004 - a clock's ends
    dates, back = np.unique(
        np.where(right, number(0, 4) * 10_000 + number(5, 2) * 100 + number(8, 2), 0),
        return_inverse=True,
    )
    days = np.array([_day_of(day) for day in dates.tolist()], np.int64)[back]
    right &= days >= 0
    at_ms = days * _DAY_MS + ((hours * 60 + minutes) * 60 + seconds) * 1_000 + number(20, 3)
    return np.where(right, at_ms, NO_TIME)


@lru_cache(maxsize=1_024)
def _day_of(number: int) -> int:
    """Days since 1970 of a date like 20260105; -1 when there is no such day."""
    try:
        day = date(number // 10_000, number // 100 % 100, number % 100)
    except ValueError:
        return -1
    return max(day.toordinal() - _EPOCH_DAY, -1)


def distinct(values: Numbers) -> tuple[Numbers, Numbers]:
    """The values that occur, rising, and the place among them of each."""
    if not are_few(values):
        return np.unique(values, return_inverse=True)
    listed = values.tolist()
    found = sorted(set(listed))
    places = {value: place for place, value in enumerate(found)}
    return np.array(found, np.int64), np.array([places[value] for value in listed], np.int64)


def format_times(at_ms: Numbers) -> list[bytes]:
    """Write times as `format_time` does. Units: milliseconds since 1970 UTC."""
    if are_few(at_ms):
        return [format_time(moment) for moment in at_ms.tolist()]
    seconds, back = np.unique(at_ms // 1_000, return_inverse=True)
    whole = b"".join(format_time(second * 1_000) for second in seconds.tolist())
    if len(whole) != len(seconds) * _TIME_BYTES:
        return [format_time(moment) for moment in at_ms.tolist()]
    text = np.frombuffer(whole, np.uint8).reshape(-1, _TIME_BYTES)[back]
    ms = at_ms % 1_000
    for place, unit in ((20, 100), (21, 10), (22, 1)):
        text[:, place] = ms // unit % 10 + ord("0")
    found: list[bytes] = text.reshape(-1).view(f"S{_TIME_BYTES}").tolist()
    return found
