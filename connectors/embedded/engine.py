"""The ClickHouse engine in this process (chDB): one folder, one handle per statement.

A fresh handle costs a tenth of a millisecond and keeps settings, parameters, the database and
external tables of one request away from every other one. The engine lets go of the interpreter
lock, so statements run side by side in threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from schemas.errors import ConfigError

_CODE: Final = re.compile(r"Code: (\d+)\.")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
UNKNOWN_CODE: Final = 1002  # the engine's own UNKNOWN_EXCEPTION
BAD_ARGUMENTS: Final = 36
# A server has none of chDB's habit of reading a lone word as a query.
_LIKE_A_SERVER: Final = MappingProxyType({"implicit_select": "0"})


@dataclass(frozen=True, slots=True)
class External:
    """A table that lives for one request."""

    name: str
    structure: str
    input_format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """One statement with everything the request says about how to run it."""

    text: bytes
    output_format: str = "TabSeparated"
    input_format: str = ""
    data: Iterable[bytes] = ()
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    externals: tuple[External, ...] = ()
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave back, and the engine's counters as the protocol names them."""

    body: bytes = b""
    summary: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the engine did not do it; the text may quote the statement, so it is never logged."""

    code: int
    text: str


class EngineRefusedError(Exception):
    """The engine's exception with its code, kept inside this package."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def quote(text: str) -> str:
    r"""Write a string as a ClickHouse literal.

    >>> print(quote("it's"))
    'it\'s'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quote_name(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def read_refusal(error: Exception) -> Refusal:
    """Take code and text from what chDB raised.

    >>> read_refusal(RuntimeError("append failed: Code: 27. DB::Exception: no")).code
    27
    """
    message = str(error).strip()
    start = max(0, message.find("Code: "))
    found = _CODE.search(message, start)
    return Refusal(int(found.group(1)) if found else UNKNOWN_CODE, message[start:])


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        text = f"Code: {BAD_ARGUMENTS}. DB::Exception: A name in the request is no identifier."
        raise EngineRefusedError(Refusal(BAD_ARGUMENTS, f"{text} (BAD_ARGUMENTS)"))
    return name


class Stream:
    """The pieces of a result, one engine block each; `close` may be called at any point."""

    def __init__(self, handle: Any, result: Any) -> None:
        self._handle = handle
        self._result = result

    def next_piece(self) -> bytes | None:
        """The next piece, or None at the end.

        Errors: `EngineRefusedError` when the statement fails after some pieces.
        """
        with _engine_errors():
            piece = self._result.fetch()
        return None if piece is None else piece.bytes()

    def close(self) -> None:
        """Cancel what still runs and give the handle back."""
        try:
            with _engine_errors():
                self._result.close()
        except EngineRefusedError:
            pass  # it has failed before; there is nothing left to cancel
        finally:
            self._handle.close()


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Turn chDB's two exception classes into ours, at this one place."""
    from chdb import ChdbError  # noqa: PLC0415 - half a second and 250 MB, only where it serves

    try:
        yield
    except (ChdbError, RuntimeError) as error:
        raise EngineRefusedError(read_refusal(error)) from None


class Engine:
    """One data folder, opened by one process.

    Errors: `run` and `stream` raise `EngineRefusedError`; `Engine` raises `ConfigError` when the
    folder cannot be opened.
    State: holds the engine until `close`; data are on disk when an insert has returned.
    """

    def __init__(self, folder: Path, *, query_bytes_max: int, result_bytes_max: int) -> None:
        self._folder = os.path.realpath(folder)
        self._always = {"max_memory_usage": str(query_bytes_max), **_LIKE_A_SERVER}
        # Only for results that are held whole; a stream holds one block.
        self._held = {"max_result_bytes": str(result_bytes_max), "result_overflow_mode": "throw"}
        if "?" in self._folder:
            raise self._unusable("a question mark in its path")
        from chdb.state import connect  # noqa: PLC0415 - see above

        self._connect = connect
        try:
            self._keeper: Any = connect(self._folder)  # the engine lives as long as one handle
        except RuntimeError as error:
            raise self._unusable("it unreadable or in use") from error
        self.version, self.timezone = self._about()

    def _unusable(self, found: str) -> ConfigError:
        return ConfigError(
            do="open",
            kind="data folder",
            name=Path(self._folder).name,
            found=found,
            expected="a folder that only this process uses",
            hint="name another folder or stop the other process",
        )

    def _about(self) -> tuple[str, str]:
        row = self.run(Order(text=b"SELECT version(), timezone()")).body.decode().split()
        return row[0], row[1]

    def _prepare(self, order: Order, bounds: Mapping[str, str]) -> Any:
        handle = self._connect(self._folder)
        try:
            if order.database:
                handle.query(f"USE {_quote_name(order.database)}")
            chosen = {**self._always, **bounds, **order.settings}
            if order.read_only:
                chosen["readonly"] = "2"
            if order.input_format:  # an insert takes its parameters from the handle
                chosen.update({f"param_{name}": value for name, value in order.params.items()})
            for external in order.externals:
                self._load(handle, external)
            pairs = (f"{_checked_name(name)} = {quote(value)}" for name, value in chosen.items())
            handle.query("SET " + ", ".join(pairs))
        except BaseException:
            handle.close()
            raise
        return handle

    @staticmethod
    def _load(handle: Any, external: External) -> None:
        name = _checked_name(external.name)
        handle.query(f"CREATE TEMPORARY TABLE {name} ({external.structure})")
        with handle.send_insert(f"INSERT INTO {name}", external.input_format) as insert:
            insert.append(external.data)
            insert.finish()

    def run(self, order: Order) -> Answer:
        """Run one statement to its end."""
        with _engine_errors():
            handle = self._prepare(order, self._held)
            try:
                if order.input_format:
                    return self._insert(handle, order)
                result = handle.query(order.text, order.output_format, params=dict(order.params))
                return Answer(result.bytes() or b"", _summary(result))
            finally:
                handle.close()

    @staticmethod
    def _insert(handle: Any, order: Order) -> Answer:
        # One insert, however many pieces: the engine joins them into blocks of its usual size,
        # and leaving the block without `finish` takes everything back that is not yet a part.
        with handle.send_insert(
            order.text.decode("utf-8", "replace"), order.input_format
        ) as insert:
            for piece in order.data:
                insert.append(piece)
            done = insert.finish()
        rows, size = str(done.rows_written), str(done.bytes_written)
        return Answer(
            b"",
            {
                "read_rows": rows,
                "read_bytes": size,
                "written_rows": rows,
                "written_bytes": size,
            },
        )

    def stream(self, order: Order) -> Stream:
        """Start a SELECT whose format needs no frame around the whole result."""
        with _engine_errors():
            handle = self._prepare(order, _EMPTY)
            try:
                result = handle.send_query(
                    order.text, order.output_format, params=dict(order.params)
                )
            except BaseException:
                handle.close()
                raise
        return Stream(handle, result)

    def close(self) -> None:
        """Write everything out and let the folder go."""
        self._keeper.close()


def _summary(result: Any) -> dict[str, str]:
    return {
        "read_rows": str(result.rows_read()),
        "read_bytes": str(result.bytes_read()),
        "written_rows": str(result.rows_written()),
        "written_bytes": str(result.bytes_written()),
        "elapsed_ns": str(int(result.elapsed() * 1e9)),
    }
