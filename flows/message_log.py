"""Read a log of (sender, recipient, unix time), and find which message answers which."""

from __future__ import annotations

import csv
import hmac
import math
import re
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from schemas.errors import ConfigError, PermanentError

ROW_BYTES_MAX: Final = 65_536

_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII).fullmatch
_END_S: Final = 253_402_300_800  # the year 10000, which RFC 3339 cannot write


class Columns(NamedTuple):
    """Which column holds what, counted from 0."""

    sender: int = 0
    recipient: int = 1
    at: int = 2

    @classmethod
    def parse(cls, text: str) -> Columns:
        """Read three places as the command line gives them.

        Errors: ConfigError unless they are three different numbers of 0 to 999.

        >>> Columns.parse("2,0,1")
        Columns(sender=2, recipient=0, at=1)
        """
        places = re.fullmatch(r"([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})", text)
        numbers = [int(place) for place in places.groups()] if places else []
        if len(set(numbers)) != len(cls._fields):
            raise ConfigError(
                do="read",
                kind="columns",
                name=text,
                expected="places of sender, recipient and time, such as 0,1,2",
            )
        return cls(*numbers)


class Message(NamedTuple):
    """One row of the log. Units: `at_ms` since 1970 UTC. People are keyed pseudonyms."""

    at_ms: int
    line: int
    sender: str
    recipient: str


class RowReader:
    """Turns lines of the log into messages, or says what is wrong with a line.

    State: a bounded cache of pseudonyms.
    """

    def __init__(self, *, key: bytes, columns: Columns, delimiter: str) -> None:
        self._columns = columns
        self._delimiter = delimiter
        self._fields_min = max(columns) + 1

        def name(person: str) -> str:
            return pseudonym(key, person)

        self._pseudonym = lru_cache(maxsize=65_536)(name)

    def read(self, line: int, text: bytes | None) -> Message | str:
        """Give one line's message, or the reason why there is none."""
        if text is None:
            return f"longer than {ROW_BYTES_MAX} bytes"
        fields = self._split(text)
        if isinstance(fields, str):
            return fields
        sender, recipient = fields[self._columns.sender], fields[self._columns.recipient]
        if not sender or not recipient:
            return "no sender or no recipient"
        seconds = fields[self._columns.at]
        if not _SECONDS(seconds) or float(seconds) >= _END_S:
            return "time is not in unix seconds"
        at_ms = _to_ms(seconds)
        return Message(at_ms, line, self._pseudonym(sender), self._pseudonym(recipient))

    def is_header(self, text: bytes | None) -> bool:
        """Tell whether a first line names the columns: its time is no number."""
        fields = self._split(text or b"")
        return not isinstance(fields, str) and not _is_number(fields[self._columns.at])

    def _split(self, text: bytes) -> list[str] | str:
        if not text.strip():
            return "blank"
        try:
            row = text.decode("utf-8")
            fields = (
                next(csv.reader([row], delimiter=self._delimiter, strict=True))
                if '"' in row
                else row.split(self._delimiter)
            )
        except UnicodeDecodeError:
            return "not UTF-8"
        except csv.Error:
            return "quotes are not closed"
        if len(fields) < self._fields_min:
            return "too few columns"
        return [field.strip() for field in fields]


def _to_ms(seconds: str) -> int:
    whole, _, part = seconds.partition(".")
    return int(whole) * 1_000 + int(f"{part:0<3}"[:3])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def pseudonym(key: bytes, person: str) -> str:
    """A person's keyed pseudonym: the same for the same key, and not to be undone without it.

    >>> pseudonym(b"a key of sixteen", "mira")
    'usr_948b68bca99e4707'
    """
    return f"usr_{hmac.digest(key, person.encode(), 'sha256')[:8].hex()}"


class OpenRequests:
    """Requests whose recipients may still answer.

    State: one entry for each message of the last day of event time, never more than
    `requests_max`; more raises PermanentError.
    """

    def __init__(self, *, within_ms: int, requests_max: int) -> None:
        self._within_ms = within_ms
        self._requests_max = requests_max
        self._open: dict[tuple[str, str], deque[Message]] = {}
        self._oldest: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._oldest)

    def answered_by(self, message: Message) -> Iterable[Message]:
        """The requests that this message answers, oldest first; they are open no more."""
        self._forget_before(message.at_ms - self._within_ms)
        return self._open.pop((message.recipient, message.sender), ())

    def add(self, message: Message) -> None:
        """Wait for the answer to a message."""
        if len(self._oldest) >= self._requests_max:
            raise PermanentError(
                do="convert",
                kind="log",
                found=f"more than {self._requests_max} messages within a day",
                hint="split the log by groups of people who write to each other",
            )
        self._open.setdefault((message.sender, message.recipient), deque()).append(message)
        self._oldest.append(message)

    def _forget_before(self, at_ms: int) -> None:
        while self._oldest and self._oldest[0].at_ms < at_ms:
            message = self._oldest.popleft()
            pair = (message.sender, message.recipient)
            waiting = self._open.get(pair)
            if waiting and waiting[0] is message:
                waiting.popleft()
                if not waiting:
                    del self._open[pair]
