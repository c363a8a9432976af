"""Headers as Kafka sends them, by a reader of our own in Python, against the library's."""

from __future__ import annotations

import random
from typing import Any, Final

from schemas.ticket_reader import UNREADABLE

Raw = list[tuple[bytes, bytes | None]]
Plain = list[tuple[str, bytes | None]]

COUNT_MAX: Final = 100_000
_VARINT_BYTES_MAX: Final = 10


def varint(number: int) -> bytes:
    """A signed number, seven bits a byte."""
    bits = (number << 1) ^ (number >> 63)
    found = bytearray()
    while bits > 127:
        found.append(bits & 127 | 128)
        bits >>= 7
    return bytes([*found, bits])


def encode(raw: Raw) -> bytes:
    """Headers as they lie in a record."""
    parts = [varint(len(raw))]
    for name, value in raw:
        parts += [
            varint(len(name)),
            name,
            varint(-1 if value is None else len(value)),
            value or b"",
        ]
    return b"".join(parts)


class _CutError(Exception):
    """There is less than was said."""


class _Reader:
    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        self._at = 0

    def number(self) -> int:
        bits = 0
        for place in range(_VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            bits |= (byte & 127) << 7 * place
            if byte < 128:
                bits &= (1 << 64) - 1
                return (bits >> 1) ^ -(bits & 1)
        raise _CutError

    def is_at_end(self) -> bool:
        return self._at == len(self._wire)

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._wire) - self._at:
            raise _CutError
        self._at += size
        return self._wire[self._at - size : self._at]


def decode(wire: bytes) -> Plain | None:
    """What the library reads; None where there are no headers, or where it would ask the client."""
    reader = _Reader(wire)
    found: Plain = []
    try:
        count = reader.number()
        if not 0 < count <= COUNT_MAX:
            return None
        for _ in range(count):
            name = reader.take(reader.number()).split(b"\0", 1)[0]
            size = reader.number()
            found.append((name.decode("latin-1"), None if size == -1 else reader.take(size)))
        if not reader.is_at_end():
            return None  # a client would give them; the library asks one
    except _CutError:
        return None
    try:
        return [(name.encode("latin-1").decode(), value) for name, value in found]
    except UnicodeDecodeError:
        return [(UNREADABLE, None)]


def damage(rng: random.Random, wire: bytes) -> bytes:
    """Cut, or with a few other bytes, or as it is."""
    at = rng.randrange(len(wire) + 1)
    odd = rng.choice(
        (b"", b"\0", b"\xff" * 11, varint(-1), varint(-2), varint(2**40), rng.randbytes(2))
    )
    return rng.choice((wire, wire, wire[:at], wire[:at] + odd + wire[at + len(odd) :], wire + odd))


def compare(native: Any, rng: random.Random, raws: list[Raw | None]) -> int:
    """One batch of headers, many of them damaged. Shapes: how many could be read."""
    wires = [damage(rng, encode(raw or [])) for raw in raws]
    batch = native.make_batch("t", [(0, n, 0, None, b"v", wire) for n, wire in enumerate(wires)])
    expected = [decode(wire) for wire in wires]
    for place, headers in enumerate(expected):
        assert headers == batch[place], f"wire {wires[place].hex()}"
    return len(expected) - expected.count(None)
