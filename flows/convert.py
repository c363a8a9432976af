"""Turn a log of (sender, recipient, unix time) into requests and engagements as CloudEvents.

A message is a request to its recipient. The recipient's next message to that sender, within a
day, is the engagement that answers it: one message answers every request that was still open.
Source: the semantics are ours, see docs/replay.md.
"""

from __future__ import annotations

import gzip
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import orjson
from rich.console import Console
from rich.progress import Progress

from flows.lines import EX_DATAERR, Faults, LineFile
from flows.message_log import ROW_BYTES_MAX, Columns, Message, OpenRequests, RowReader
from schemas.errors import ConfigError
from schemas.ticket import format_time

DAY_MS: Final = 86_400_000
OPEN_REQUESTS_MAX: Final = 5_000_000
"""Requests that may wait for their answer at once: what a day of the log may hold."""

KEY_BYTES_MIN: Final = 16
_KEY_BYTES: Final = 32
_BATCH_ROWS: Final = 10_000
_GZIP_LEVEL: Final = 5


class Converted(msgspec.Struct, frozen=True):
    """What became of the lines of a log: `lines == headers + requests + faults.total`.

    `to_self` of the requests have one person at both ends, and are never answered.
    """

    lines: int
    headers: int
    requests: int
    engagements: int
    to_self: int
    faults: Faults


class EventWriter:
    """Writes the two kinds of events of one log, as JSON in CloudEvents' structured mode."""

    def __init__(self, log: str) -> None:
        self._log = log

    def request(self, message: Message) -> bytes:
        """The request that a message is to its recipient; its sender is the `actor`."""
        stem = self._stem(message)
        own = {
            "subject": message.recipient,
            "template": "message",
            "channels_allowed": ["chat"],
            "priority": "normal",
            "idempotency_key": stem,
            "recipient": message.recipient,
        }
        attributes = {"id": f"{stem}-req", "actor": message.sender}
        return self._event("ntf.request.created.v1", message, message.at_ms, attributes, own)

    def engagement(self, request: Message, reply: Message) -> bytes:
        """The engagement of a request's recipient, at the time of the reply."""
        stem = self._stem(request)
        own = {
            "subject": request.recipient,
            "channel": "chat",
            "provider": "message-log",
            "message_id": stem,
            "provider_event_id": self._stem(reply),
        }
        attributes = {"id": f"{stem}-rep", "causationid": f"{stem}-req"}
        return self._event("ntf.engagement.replied.v1", request, reply.at_ms, attributes, own)

    def _stem(self, message: Message) -> str:
        return f"{self._log}-{message.line:08d}"

    def _event(
        self,
        event_type: str,
        request: Message,
        at_ms: int,
        attributes: Mapping[str, str],
        own: Mapping[str, object],
    ) -> bytes:
        stem = self._stem(request)
        event = {
            "specversion": "1.0",
            "type": event_type,
            "source": f"/logs/{self._log}",
            "time": format_time(at_ms).decode(),
            "datacontenttype": "application/json",
            "datapurpose": "transactional_notice",
            "dataclassification": "GDPR,PII",
            "datacategory": "behaviour,identity",
            "subject": request.recipient,
            "correlationid": f"{stem}-jrn",
            **attributes,
            "data": {
                "journey_id": f"{stem}-jrn",
                "notification_id": f"{stem}-ntf",
                "campaign": "direct-message",
                "tenant": self._log,
                **own,
            },
        }
        return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def convert(
    source: Path,
    target: Path,
    *,
    key: bytes,
    columns: Columns | None = None,
    log: str = "",
    delimiter: str = ",",
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Converted:
    """Write a log as events, sorted by time; the same log and key give the same bytes.

    `log` names the log in ids and sources, by default after its file. The target appears
    when it is complete; rows are sorted on disk beside it, under pseudonyms, and memory holds
    one day of the log's messages at the most.
    Units: `progress` takes bytes of the source that were read, and how many there are.
    Errors: ConfigError for paths or a key that cannot work; PermanentError for a broken gzip.
    """
    _check(source, target, key, delimiter)
    faults = Faults()
    reader = RowReader(key=key, columns=columns or Columns(), delimiter=delimiter)
    writer = EventWriter(log_name(log or source.name))
    with LineFile(source, line_bytes_max=ROW_BYTES_MAX) as lines, _sorter(target) as rows:
        line_count, header_count = _read_rows(lines, reader, rows, faults, progress)
        engagements = to_self = 0
        with _replacing(target) as write:
            unanswered = OpenRequests(within_ms=DAY_MS, requests_max=OPEN_REQUESTS_MAX)
            for message in _in_order(rows):
                for request in unanswered.answered_by(message):
                    write(writer.engagement(request, message))
                    engagements += 1
                write(writer.request(message))
                if message.sender == message.recipient:
                    to_self += 1
                else:
                    unanswered.add(message)
    return Converted(
        lines=line_count,
        headers=header_count,
        requests=line_count - header_count - faults.total,
        engagements=engagements,
        to_self=to_self,
        faults=faults,
    )


def log_name(text: str) -> str:
    """A short name that fits into ids: small letters, digits and hyphens.

    >>> log_name("College Msg.csv.gz")
    'college-msg'
    """
    stem = text.lower().removesuffix(".gz").removesuffix(".csv")
    return re.sub(r"[^a-z0-9]+", "-", stem)[:32].strip("-") or "log"


def _check(source: Path, target: Path, key: bytes, delimiter: str) -> None:
    if len(key) < KEY_BYTES_MIN:
        raise ConfigError(
            do="use",
            kind="pseudonym key",
            found=f"{len(key)} bytes",
            expected=f"at least {KEY_BYTES_MIN}",
        )
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ConfigError(do="use", kind="delimiter", expected="one character, no quote")
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(
            do="write", kind="file", name=str(target), found="the log itself", expected="another"
        )


@contextmanager
def _sorter(target: Path) -> Iterator[sqlite3.Connection]:
    """A table on disk, ordered by time and then by line, gone afterwards."""
    try:
        folder = TemporaryDirectory(
            dir=target.parent, prefix=".airside-", ignore_cleanup_errors=True
        )
    except OSError as err:
        raise _not_written(target, err.strerror) from None
    try:
        with folder as name, closing(sqlite3.connect(Path(name) / "rows")) as rows:
            rows.execute("PRAGMA journal_mode = OFF")
            rows.execute("PRAGMA synchronous = OFF")
            rows.execute(
                "CREATE TABLE log (at INTEGER, line INTEGER, sender TEXT, recipient TEXT,"
                " PRIMARY KEY (at, line)) WITHOUT ROWID"
            )
            yield rows
    except sqlite3.Error as err:  # for one a full disk
        raise _not_written(target, err.sqlite_errorname) from None


def _read_rows(
    lines: LineFile,
    reader: RowReader,
    rows: sqlite3.Connection,
    faults: Faults,
    progress: Callable[[int, int], None],
) -> tuple[int, int]:
    """Put every readable row into the table; count lines and headers."""
    batch: list[Message] = []
    number = headers = 0
    for number, text in lines:
        if number == 1 and reader.is_header(text):
            headers = 1
            continue
        message = reader.read(number, text)
        if isinstance(message, str):
            faults.add(number, message)
            continue
        batch.append(message)
        if len(batch) >= _BATCH_ROWS:
            _insert(rows, batch)
            progress(lines.position, lines.size)
    _insert(rows, batch)
    progress(lines.size, lines.size)
    return number, headers


def _insert(rows: sqlite3.Connection, batch: list[Message]) -> None:
    rows.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", batch)
    rows.commit()
    batch.clear()


def _in_order(rows: sqlite3.Connection) -> Iterator[Message]:
    found = rows.execute("SELECT at, line, sender, recipient FROM log ORDER BY at, line")
    return map(Message._make, found)


@contextmanager
def _replacing(target: Path) -> Iterator[Callable[[bytes], int]]:
    """A file beside the target that takes its place when all went well, and else is gone."""
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as raw:
            if target.suffix == ".gz":
                # No name and no time in the gzip header: the same events are the same bytes.
                with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed:
                    yield packed.write
            else:
                yield raw.write
        part.replace(target)
    except OSError as err:
        raise _not_written(target, err.strerror) from None
    finally:
        with suppress(OSError):
            part.unlink()


def _not_written(target: Path, found: str | None) -> ConfigError:
    return ConfigError(
        do="write",
        kind="file",
        name=str(target),
        found=found or "a fault of the disk",
        hint="name another place for it",
    )


def read_or_make_key(path: Path) -> bytes:
    """The pseudonym key in a file; where there is no file, it is made, for its owner alone.

    Errors: ConfigError for a file that cannot be read or made.
    """
    try:
        with suppress(FileExistsError):
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w") as file:
                file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        return path.read_bytes().strip()
    except OSError as err:
        raise ConfigError(
            do="open",
            kind="pseudonym key",
            name=str(path),
            found=err.strerror or "no file",
            hint="name a file of your own",
        ) from None


def run_convert(
    source: Path,
    target: Path,
    *,
    columns: str = "0,1,2",
    key_file: Path | None = None,
    log: str = "",
    delimiter: str = ",",
    console: Console | None = None,
) -> int:
    """Convert for a person: with a progress bar and a summary.

    The key is kept beside the target unless `key_file` names another place, so that a second
    conversion gives the same pseudonyms.
    Shapes: 0 when every line was used, `EX_DATAERR` when some were left out.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    places = Columns.parse(columns)
    if not source.is_file():  # before a key is made for nothing
        raise ConfigError(do="read", kind="file", name=str(source), found="no such file")
    key_file = key_file or target.with_name(target.name + ".key")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        done = convert(
            source,
            target,
            key=read_or_make_key(key_file),
            columns=places,
            log=log,
            delimiter=delimiter,
            progress=lambda at, size: bar.update(task, completed=at, total=size),
        )
    console.print(
        f"{done.lines} lines: {done.headers} header, {done.requests} requests"
        f" ({done.to_self} to self), {done.faults.total} left out;"
        f" {done.engagements} engagements",
        markup=False,
    )
    done.faults.show(console)
    console.print(f"pseudonym key: {key_file}", markup=False)
    return EX_DATAERR if done.faults.total else 0
