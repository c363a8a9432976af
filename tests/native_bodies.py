"""Odd bodies against both levels, by seed: the same verdicts, the same values, the same columns."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from flows.ingest import make_gate
from flows.steps.check import BlockChecker
from schemas.blocks import CheckedBlock, RawBlock
from schemas.bodies import Bodies, words_of
from schemas.events import EVENT_TYPES
from schemas.events.plan import NUMBERS, SLOTS
from schemas.ticket import Header
from tests.messages import policy, settings

AT_MS: Final = 4_000_000_000_000
_EXAMPLES: Final = Path(__file__).parents[1] / "schemas" / "examples"
_TEXTS: Final = (
    *("", "x" * 7, "x" * 8, "x" * 64, "x" * 65, "x" * 128, "x" * 129, "email", "EUR", "eur"),
    *("a\nb", 'a"b', "a\\b", "\x7f", "\0", "grün", "\ud83d", "😀", "hard", "Europe/Berlin"),
    *("2026-01-05T10:00:00Z", "12345678\t", "true", "0"),
)
# Written as they stand: forms of JSON that a careful writer would not use, and some that are none.
_RAW: Final = (
    *(b"0", b"-0", b"1", b"-1", b"1000", b"1001", b"1.0", b"1e3", b"1E-2", b"0.5", b"0.50", b"01"),
    *(b"1.", b".5", b"+1", b"99999999999999", b"100000000000000", b"9" * 15, b"9" * 16, b"9" * 40),
    *(b"0.30000000000000004", b"0.999999999999999", b"1.000000000000001", b"0.000000000000001"),
    *(b"1e400", b"NaN", b"Infinity", b"true", b"false", b"null", b"nul", b"True", b"[]", b"{}"),
    *(b'["email"]', b'["email",]', b'["email","fax"]', b"[null]", b'{"a":1,"a":2}', b"[[[[]]]]"),
    *(
        b'"\\u0065mail"',
        b'"\\ud83d\\ude00"',
        b'"\\ud83d"',
        b'"\\x"',
        b'"\xff"',
        b'"\xc3\xbc"',
        b"'a'",
    ),
    *(
        b'{"a":[{"b":null},1.5,"c"]}',
        b"[" * 9 + b"]" * 9,
        b"[" * 300 + b"]" * 300,
        b"",
        b'"',
        b"//",
    ),
)
_BLANKS: Final = (b" ", b"\n", b"\r\n\t", b"\x0b", b"\xef\xbb\xbf", b"")

Fields = list[tuple[bytes, bytes]]


class Sent(NamedTuple):
    """One message: its headers, and the fields of its body as they are written."""

    headers: list[Header]
    key: bytes
    fields: Fields


def examples() -> list[Sent]:
    """Every published example, each of them a message that is right."""
    found = []
    for path in sorted(_EXAMPLES.glob("*/*.json")):
        event = json.loads(path.read_text())
        body = event.pop("data")
        headers: list[Header] = [("content-type", event.pop("datacontenttype").encode())]
        headers += [(f"ce_{name}", str(value).encode()) for name, value in event.items()]
        key = str(event.get("subject", event["id"])).encode()
        found.append(Sent(headers, key, [(name.encode(), _json(body[name])) for name in body]))
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def write(fields: Fields, blank: bytes = b"") -> bytes:
    """The fields as one object, with something between all tokens."""
    pairs = [b'"%b"%b:%b%b' % (name, blank, blank, value) for name, value in fields]
    comma = b"%b,%b" % (blank, blank)
    return b"%b{%b%b%b}%b" % (blank, blank, comma.join(pairs), blank, blank)


def _value(rng: random.Random) -> bytes:
    return rng.choice(_RAW) if rng.random() < 0.6 else json.dumps(rng.choice(_TEXTS)).encode()


def _replace(rng: random.Random, fields: Fields) -> Fields:
    at = rng.randrange(len(fields))
    return [*fields[:at], (fields[at][0], _value(rng)), *fields[at + 1 :]]


def _add(rng: random.Random, fields: Fields) -> Fields:
    known = [name.encode() for name in (*SLOTS, "attempt", "machine")]
    names = (*known, b"x", b"", b"j\\u006f", b"\xff")
    at = rng.randrange(len(fields) + 1)
    return [*fields[:at], (rng.choice(names), _value(rng)), *fields[at:]]


def _drop(rng: random.Random, fields: Fields) -> Fields:
    at = rng.randrange(len(fields))
    return fields[:at] + fields[at + 1 :] or fields


def _null(rng: random.Random, fields: Fields) -> Fields:
    at = rng.randrange(len(fields))
    return [*fields[:at], (fields[at][0], b"null"), *fields[at + 1 :]]


def _again(rng: random.Random, fields: Fields) -> Fields:
    return [*fields, rng.choice(fields)]


def _shuffle(rng: random.Random, fields: Fields) -> Fields:
    return rng.sample(fields, len(fields))


_CHANGES: Final[Sequence[Callable[[random.Random, Fields], Fields]]] = (
    *(_replace, _replace, _replace, _add, _add, _drop, _null, _again, _shuffle, _shuffle),
)


def _spoil(rng: random.Random, body: bytes) -> bytes:
    at, end = sorted(rng.choices(range(len(body) + 1), k=2))
    junk = rng.choice((b'"', b"\\", b"}", b"{", b",", b":", b" ", b"\0", b"\xe2\x82", b"0"))
    head, tail = body[:at], body[at:]
    return rng.choice((head, head + junk + tail, head + body[end:], body + junk))


def draw(rng: random.Random, corpus: Sequence[Sent]) -> tuple[list[Header], Any, bytes | None]:
    """The headers, key and body of one message, as it was or changed a few times."""
    headers, key, fields = rng.choice(corpus)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        fields = rng.choice(_CHANGES)(rng, fields)
    body: bytes | None = write(fields, rng.choice(_BLANKS) if rng.random() < 0.2 else b"")
    if body is not None and rng.random() < 0.1:
        body = _spoil(rng, body)
    if rng.random() < 0.03:
        body = rng.choice((None, b"", b" " * 600 + (body or b"")))
    if rng.random() < 0.03:
        headers = [pair for pair in headers if pair[0] != rng.choice(("ce_subject", "ce_type"))]
    odd_key = rng.choice((None, b"", key + b"x", b"\xff")) if rng.random() < 0.03 else key
    return headers, odd_key, body


def both(
    native: Any, topic: str, drawn: Sequence[Any], *, at_ms: int = AT_MS
) -> tuple[RawBlock, RawBlock]:
    """The same block out of the library's memory, and as objects."""
    rows = [
        (0, n, at_ms, key, body, [(name.encode(), value) for name, value in headers])
        for n, (headers, key, body) in enumerate(drawn)
    ]
    batch = native.make_batch(topic, rows)
    columns = {"lane": 0, "topic": topic, "received_ms": at_ms, "headers": batch}
    memory = RawBlock(
        **columns,
        partitions=batch.partitions(),
        offsets=batch.offsets(),
        timestamps=batch.timestamps(),
        keys=batch.keys(),
        values=batch.values(),
    )
    columns["headers"] = list(batch)
    objects = RawBlock(
        **columns,
        partitions=[0] * len(rows),
        offsets=list(range(len(rows))),
        timestamps=[at_ms] * len(rows),
        keys=[key for _, key, _ in drawn],
        values=[body for _, _, body in drawn],
    )
    return memory, objects


def compare(
    native: Any, rng: random.Random, corpus: Sequence[Sent], checkers: Sequence[BlockChecker]
) -> int:
    """One block through both levels. Shapes: how many bodies nobody had to decode."""
    topic = rng.choice(sorted({kind.topic for kind in EVENT_TYPES.values()}))
    mine = [sent for sent in corpus if topic_of(sent) == topic]
    drawn = [draw(rng, mine) for _ in range(rng.choice((0, 1, 40, 200)))]
    memory, objects = both(native, topic, drawn)
    found, expected = checkers[0].check(memory), checkers[1].check(objects)
    assert _passed(expected) == _passed(found), "the gate's state or outputs differ"
    look(found, expected)
    assert isinstance(found.bodies, Bodies)
    return len(drawn) - len(found.bodies.decoded)


def _passed(block: CheckedBlock) -> Any:
    """All that a fresh gate makes of a block; sealed bodies are other ones each time."""
    gate = make_gate(settings(), policy())
    outputs = gate.pass_block(block)
    records = [
        one if one.topic.startswith("ntf.routed") else one._replace(value=None)
        for one in outputs.records
    ]
    rows = [
        (part.table, {name: _values_of(column) for name, column in part.columns.items()})
        for part in outputs.rows
    ]
    return gate.dump(), records, rows, outputs.counts


def _values_of(column: Any) -> Any:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def topic_of(sent: Sent) -> str:
    """Where such a message is sent."""
    return EVENT_TYPES[(dict(sent.headers)["ce_type"] or b"").decode()].topic


def look(found: CheckedBlock, expected: CheckedBlock) -> None:
    """Compare everything that can be asked of two checked blocks."""
    assert isinstance(found.bodies, Bodies)
    for place, body in enumerate(expected.bodies):
        one = found.bodies[place]
        refused = found.refusals.get(place), expected.refusals.get(place)
        assert refused[0] == refused[1], f"message {place}: {refused}"
        assert body == one, f"message {place}: the bodies differ"
    assert expected.refusals == found.refusals
    assert expected.glances == found.glances
    assert list(map(_ticket, expected.tickets)) == list(map(_ticket, found.tickets))
    right = [place for place, body in enumerate(expected.bodies) if body is not None]
    for name in SLOTS:
        wanted = [getattr(expected.bodies[place], name) for place in right]
        if name in NUMBERS:
            given: Any = found.bodies.numbers(name, right).tolist()
            wanted = [number or 0 for number in wanted]
        else:
            given = found.bodies.texts(name, right)
            words = list(words_of(found.bodies, name, right))
            assert wanted == words, f"the words of {name} differ"
        assert wanted == given, f"the column {name} differs"
    assert list(expected.bodies) == list(found.bodies)


def _ticket(ticket: Any) -> Any:
    return ticket and (ticket.label.pairs, msgspec.structs.astuple(ticket)[1:])
