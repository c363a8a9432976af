"""Check and read columns of header values: what many messages have under one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.few import are_few
from schemas.ticket import format_time, parse_time
from schemas.tickets import NO_TIME, Numbers

Values = Sequence[bytes | None]

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


def strangers(values: Values, fits: Callable[[Values], bool], first: int = 0) -> list[int]:
    """The places of values that do not fit; halves that fit as a whole are not looked into."""
    if fits(values):
        return []
    if len(values) == 1:
        return [first]
    half = len(values) // 2
    return [
        *strangers(values[:half], fits, first),
        *strangers(values[half:], fits, first + half),
    ]


def are_ids(values: Values) -> bool:
    """Tell whether all have the form of an id."""
    return _are_words(values, _ID_BYTES, 8)


def are_names(values: Values) -> bool:
    """Tell whether all have the form of a name."""
    return _are_words(values, _NAME_BYTES, 1)


def _are_words(values: Any, letters: bytes, shortest: int) -> bool:
    if not all(values) and None in values:
        return False
    sizes = list(map(len, values))
    return (
        not b"".join(values).translate(None, letters)
        and shortest <= min(sizes)
        and max(sizes) <= WORD_BYTES_MAX
    )


def are_traces(values: Any) -> bool:
    """Tell whether all are W3C trace parents of version 00."""
    if not all(values) or set(map(len, values)) != {_TRACE_BYTES}:
        return False
    joined = b"".join(values)
    text = np.frombuffer(joined, np.uint8).reshape(-1, _TRACE_BYTES)
    return bool(
        not joined.translate(None, _HEX_BYTES)
        and joined.count(b"-") == len(values) * len(_TRACE_MARKS)
        and (text[:, _TRACE_MARKS] == ord("-")).all()
        and (text[:, :2] == ord("0")).all()
    )


def are_plain(values: Any) -> bool:
    """Tell whether all are ASCII, and the lines of a text."""
    if not all(values) and None in values:
        return False
    joined = b"".join(values)
    return joined.isascii() and b"\n" not in joined


def texts(values: Any) -> list[str]:
    """ASCII values as texts. Shapes: none has a line feed."""
    return b"\n".join(values).decode("ascii").split("\n")


def encode_all(words: Sequence[str]) -> list[bytes]:
    """ASCII texts as bytes. Shapes: none has a line feed."""
    return "\n".join(words).encode("ascii").split(b"\n") if words else []


def parse_times(values: Any) -> Numbers:
    """Read RFC 3339 times, all at once where they have their canonical form.

    Units: milliseconds since 1970 UTC; `NO_TIME` for what cannot be read.
    """
    if not are_few(values) and all(values) and set(map(len, values)) == {_TIME_BYTES}:
        found = _parse_canonical(b"".join(values))
    else:
        found = np.full(len(values), NO_TIME, np.int64)
    for place in np.flatnonzero(found == NO_TIME).tolist():
        at_ms = parse_time(values[place] or b"")
        found[place] = NO_TIME if at_ms is None else at_ms
    return found


def _parse_canonical(joined: bytes) -> Numbers:
    """Read times of the form `1970-01-01T00:00:00.000Z`; `NO_TIME` for others."""
    table = np.frombuffer(joined, np.uint8).reshape(-1, _TIME_BYTES)
    text = np.ascontiguousarray(table.T)
    right: npt.NDArray[np.bool_] = np.ones(len(table), np.bool_)
    for place, mark in _CANONICAL_MARKS:
        right &= text[place] == ord(mark)
    digits = (text - ord("0")).astype(np.int64)

    def number(first: int, size: int) -> Numbers:
        found: Numbers = np.zeros(len(table), np.int64)
        for digit in digits[first : first + size]:
            found = found * 10 + digit
        return found

    for place in (0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22):
        right &= digits[place] <= 9  # noqa: PLR2004 - a digit; what lies before 0 wraps round
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
