"""Find where a ClickHouse statement ends and the data sent after it begins.

The engine takes a statement and binary data apart; the HTTP protocol sends both in one stream.
Only the outermost words are looked at; what they mean is left to the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# The engine's own limit for the text before the data (max_query_size) is a quarter of this.
HEAD_BYTES_MAX: Final = 1 << 20

_TOKEN: Final = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    |(?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_AFTER_FORMAT: Final = re.compile(rb"[ \t\f]*(?:\r?\n)?")
_READS: Final = frozenset(
    [b"SELECT", b"WITH", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"EXPLAIN", b"CHECK", b"FROM"]
)


@dataclass(frozen=True, slots=True)
class _Token:
    word: bytes  # upper case; empty for anything but a bare word
    raw: bytes
    start: int
    end: int
    follows_dot: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement apart from its data.

    `input_format` is set for an INSERT whose data follows at `data_at`; `output_format` is what
    the text asks for, empty when it leaves that to the request.
    """

    text: bytes
    reads: bool
    streams: bool
    input_format: str
    data_at: int
    output_format: str
    is_single: bool


def _top_level(text: bytes) -> Iterator[_Token]:
    """Yield the tokens outside every bracket, without blanks and comments."""
    depth, dotted = 0, False
    for match in _TOKEN.finditer(text):
        raw = match.group()
        if match.lastgroup == "skip":
            continue
        if raw in (b")", b"]", b"}"):
            depth -= 1
        elif raw in (b"(", b"[", b"{"):
            depth += 1
        elif depth == 0:
            word = raw.upper() if match.lastgroup == "word" else b""
            yield _Token(word, raw, match.start(), match.end(), dotted)
        dotted = raw == b"."


def _find_data(tokens: Iterator[_Token]) -> tuple[int, str, int] | None:
    """Find the end of the text, the format and the start of the data of an INSERT."""
    named = False  # the table may itself be called values or format
    after_format = -1
    for token in tokens:
        if after_format >= 0:
            return after_format, token.raw.decode(errors="replace"), token.end
        if not named:
            named = token.word not in (b"INTO", b"TABLE", b"FUNCTION")
        elif token.follows_dot:
            continue
        elif token.word == b"VALUES":
            return token.start, "Values", token.end
        elif token.word == b"FORMAT":
            after_format = token.start
        elif token.word in (b"SELECT", b"WITH", b"FROM", b"WATCH", b"EXPLAIN"):
            return None
    return None


def _output_format(tokens: list[_Token]) -> str:
    for before, token, after in zip(tokens, tokens[1:], [*tokens[2:], None], strict=False):
        ends = after is None or after.raw == b";" or after.word in (b"SETTINGS", b"FORMAT")
        if before.word == b"FORMAT" and token.word and ends:
            return token.raw.decode()
    return ""


def _is_single(tokens: list[_Token]) -> bool:
    first = next((at for at, token in enumerate(tokens) if token.raw == b";"), len(tokens))
    return all(token.raw == b";" for token in tokens[first:])


def split_statement(head: bytes) -> Statement:
    r"""Take the statement off the front of what the client sent.

    >>> parts = split_statement(b"INSERT INTO t (a) FORMAT CSV\n1,2")
    >>> parts.text, parts.input_format, parts.data_at
    (b'INSERT INTO t (a) ', 'CSV', 29)
    """
    tokens = _top_level(head)
    first = next(tokens, None)
    if first is not None and first.word == b"INSERT":
        found = _find_data(tokens)
        if found is not None:
            end, input_format, data_at = found
            blank = _AFTER_FORMAT.match(head, data_at)
            at = blank.end() if blank else data_at
            return Statement(head[:end], False, False, input_format, at, "", True)
    rest = [*([] if first is None else [first]), *tokens]
    word = b"" if first is None else first.word
    return Statement(
        text=head,
        reads=word in _READS or (first is not None and first.raw == b"("),
        streams=word in (b"SELECT", b"WITH"),
        input_format="",
        data_at=len(head),
        output_format=_output_format(rest),
        is_single=_is_single(rest),
    )
