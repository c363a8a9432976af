"""What one HTTP request asks of the engine: form, headers and body made into an `Order`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from connectors.embedded.codec import can_decode, pieces
from connectors.embedded.engine import EngineRefusedError, External, Order, Refusal
from connectors.embedded.multipart import Part, boundary_of, split_parts
from connectors.embedded.statement import HEAD_BYTES_MAX, Statement, split_statement

# Said to the transport, not to the engine. Sessions are accepted and have no effect: nothing
# outlives a request but tables. There is no access control, so names and passwords have none.
_TRANSPORT: Final = frozenset(
    """query database default_format query_id session_id session_timeout session_check
    close_session user password quota_key role buffer_size wait_end_of_query stacktrace
    client_protocol_version compress decompress add_http_cors_header""".split()  # noqa: SIM905 - read as one list
)
# One block after the other is a valid result in these; others have a frame around the whole.
_STREAMED: Final = frozenset(["Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow"])
SYNTAX_ERROR: Final = 62
NOT_IMPLEMENTED: Final = 48
INCORRECT_DATA: Final = 117


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came, its body still encoded."""

    form: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    read_only: bool


@dataclass(frozen=True, slots=True)
class Task:
    """An order and how its result travels."""

    order: Order
    reads: bool
    streams: bool


def refused(code: int, name: str, text: str) -> EngineRefusedError:
    """Say no in the engine's own words, so that clients treat it alike."""
    return EngineRefusedError(Refusal(code, f"Code: {code}. DB::Exception: {text} ({name})"))


def _types_as_structure(types: str) -> str:
    names, depth, current = list[str](), 0, ""
    for letter in types + ",":
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            names.append(f"_{len(names) + 1} {current.strip()}")
            current = ""
        else:
            current += letter
    return ", ".join(names)


def _external(part: Part, form: Mapping[str, str]) -> External:
    structure = form.get(f"{part.name}_structure", "")
    if not structure:
        structure = _types_as_structure(form.get(f"{part.name}_types", ""))
    input_format = form.get(f"{part.name}_format", "TabSeparated")
    return External(part.name, structure, input_format, part.body)


def _head(query: str, body: Iterator[bytes]) -> bytes:
    """Join the text in the address with enough of the body to hold the rest of the statement."""
    start = query.strip().encode()
    parts = [start + b"\n"] if start else []
    size = 0
    for piece in body:
        parts.append(piece)
        size += len(piece)
        if size >= HEAD_BYTES_MAX:
            break
    return b"".join(parts)


def _statement(form: Mapping[str, str], body: Iterator[bytes]) -> tuple[Statement, Iterable[bytes]]:
    head = _head(form.get("query", ""), body)
    statement = split_statement(head)
    if not statement.text.strip():
        raise refused(SYNTAX_ERROR, "SYNTAX_ERROR", "Empty query")
    if not statement.is_single:
        raise refused(SYNTAX_ERROR, "SYNTAX_ERROR", "Multi-statements are not allowed")
    if statement.input_format:
        first = head[statement.data_at :]
        return statement, chain([first] if first else [], body)
    rest = b"".join(body)  # bounded; the engine itself refuses a text that long
    return split_statement(head + rest) if rest else statement, ()


def read_task(call: Call, *, bytes_max: int) -> Task:
    """Make the order that a request stands for.

    Errors: `EngineRefusedError` for what this server does not do; `ValueError` for a body that is
    not what its header says; `BodyTooLargeError` past the bound, now or while data are read.
    """
    encoding = call.headers.get("content-encoding", "").lower()
    for switch in ("compress", "decompress"):
        if call.form.get(switch, "0") not in ("", "0", "false"):
            text = f"Native block compression is not served: drop {switch}=1"
            raise refused(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", text)
    if not can_decode(encoding):
        text = "The Content-Encoding is not served"
        raise refused(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", text)
    body, form, externals = pieces(call.body, encoding, bytes_max=bytes_max), dict(call.form), []
    boundary = boundary_of(call.headers.get("content-type", ""))
    if boundary:
        for part in split_parts(b"".join(body), boundary):
            if part.file_name:
                externals.append(part)
            else:
                form[part.name] = part.body.decode("utf-8", "replace")
        body = iter(())
    statement, data = _statement(form, body)
    return _task(call, form, statement, data, tuple(_external(part, form) for part in externals))


def _task(
    call: Call,
    form: Mapping[str, str],
    statement: Statement,
    data: Iterable[bytes],
    externals: tuple[External, ...],
) -> Task:
    described = {
        f"{table.name}_{what}" for table in externals for what in ("format", "structure", "types")
    }
    default = form.get("default_format") or call.headers.get("x-clickhouse-format", "TabSeparated")
    output_format = statement.output_format or default
    order = Order(
        text=statement.text,
        output_format=output_format,
        input_format=statement.input_format,
        data=data,
        database=form.get("database") or call.headers.get("x-clickhouse-database", ""),
        settings={
            name: value
            for name, value in form.items()
            if name not in _TRANSPORT and name not in described and not name.startswith("param_")
        },
        params={
            name.removeprefix("param_"): value
            for name, value in form.items()
            if name.startswith("param_")
        },
        externals=externals,
        read_only=call.read_only,
    )
    waits = form.get("wait_end_of_query", "0") not in ("", "0")
    streams = statement.streams and output_format in _STREAMED and not waits
    return Task(order, statement.reads, streams)
