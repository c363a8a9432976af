"""Bodies in the encodings that HTTP clients of ClickHouse use, in bounded pieces."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

PIECE_BYTES: Final = 1 << 20
FEED_BYTES: Final = 1 << 16

# Both come with clickhouse-connect, whose choice differs by Python version; without one of them
# its encoding is refused on the way in and not offered on the way out.
_MODULES: Final = {"lz4": ("lz4.frame",), "zstd": ("compression.zstd", "backports.zstd")}


class BodyTooLargeError(Exception):
    """More bytes came out than the bound allows; the caller answers 413."""


def _module(encoding: str) -> Any:
    for name in _MODULES[encoding]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return None


def _zlib_pieces(body: memoryview, wbits: int) -> Iterator[bytes]:
    machine, begun = zlib.decompressobj(wbits), False
    for start in range(0, len(body), FEED_BYTES):
        rest: bytes = bytes(body[start : start + FEED_BYTES])
        while rest:
            yield machine.decompress(rest, PIECE_BYTES)
            rest, begun = machine.unconsumed_tail, True
            if machine.eof:  # clients send one member per block
                rest = machine.unused_data
                machine, begun = zlib.decompressobj(wbits), False
    if begun:  # half a body must not become half an insert
        raise EOFError


def _frame_pieces(body: memoryview, new: Callable[[], Any]) -> Iterator[bytes]:
    machine, begun = new(), False
    for start in range(0, len(body), FEED_BYTES):
        rest: bytes = bytes(body[start : start + FEED_BYTES])
        while rest or not machine.needs_input:
            yield machine.decompress(rest, PIECE_BYTES)
            rest, begun = b"", True
            if machine.eof:
                rest = machine.unused_data
                machine, begun = new(), False
    if begun:
        raise EOFError


def _plain_pieces(body: memoryview) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield bytes(body[start : start + PIECE_BYTES])


def accepted_encodings() -> tuple[str, ...]:
    """The encodings that work here, the cheapest on loopback first."""
    return (*(name for name in _MODULES if _module(name) is not None), "gzip", "deflate")


def _raw_pieces(body: memoryview, encoding: str) -> Iterator[bytes]:
    if encoding in ("", "identity"):
        return _plain_pieces(body)
    if encoding in ("gzip", "x-gzip"):
        return _zlib_pieces(body, wbits=31)
    if encoding == "deflate":
        return _zlib_pieces(body, wbits=15)
    if encoding == "lz4":
        return _frame_pieces(body, _module("lz4").LZ4FrameDecompressor)
    return _frame_pieces(body, _module("zstd").ZstdDecompressor)


def can_decode(encoding: str) -> bool:
    """Say whether `pieces` takes this `Content-Encoding`."""
    return encoding in ("", "identity", "x-gzip", *accepted_encodings())


def _zstd_errors(encoding: str) -> tuple[type[Exception], ...]:
    return (_module(encoding).ZstdError,) if encoding == "zstd" else ()


def pieces(body: bytes, encoding: str, *, bytes_max: int) -> Iterator[bytes]:
    """Decode a body piece by piece, so that a small body cannot become an endless one.

    Errors: `BodyTooLargeError` past the bound; `ValueError` when the body is not what it says.
    """
    total = 0
    broken: tuple[type[Exception], ...] = (zlib.error, RuntimeError, EOFError)
    broken += _zstd_errors(encoding)
    try:
        for piece in _raw_pieces(memoryview(body), encoding):
            total += len(piece)
            if total > bytes_max:
                raise BodyTooLargeError
            if piece:
                yield piece
    except broken as error:
        raise ValueError(encoding) from error


def choose_encoding(accept_encoding: str) -> str:
    """Pick what the client accepts and we like best; nothing fits means no encoding.

    >>> choose_encoding("gzip;q=0, deflate")
    'deflate'
    """
    offered: dict[str, bool] = {}
    for item in accept_encoding.split(","):
        name, _, quality = item.strip().partition(";")
        offered[name.strip().lower()] = quality.replace(" ", "") not in ("q=0", "q=0.0")
    return next((name for name in accepted_encodings() if offered.get(name)), "")


class Encoder:
    """Encode a response piece by piece into one stream."""

    def __init__(self, encoding: str) -> None:
        self._machine: Any = None
        self._opening = b""
        if encoding in ("gzip", "deflate"):
            self._machine = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
        elif encoding == "lz4":
            self._machine = _module("lz4").LZ4FrameCompressor()
            self._opening = self._machine.begin()
        elif encoding == "zstd":
            self._machine = _module("zstd").ZstdCompressor(level=1)

    def encode(self, piece: bytes) -> bytes:
        """Add a piece; what comes back may lag behind it."""
        if self._machine is None:
            return piece
        opening, self._opening = self._opening, b""
        encoded: bytes = self._machine.compress(piece)
        return opening + encoded

    def finish(self) -> bytes:
        """Close the stream."""
        if self._machine is None:
            return b""
        rest: bytes = self._machine.flush()
        return self._opening + rest


def encode_whole(parts: Sequence[bytes], encoding: str) -> bytes:
    """Encode a response that is already complete."""
    encoder = Encoder(encoding)
    return b"".join([*(encoder.encode(part) for part in parts), encoder.finish()])
