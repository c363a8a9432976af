"""Odd headers and bodies against both levels, by seed; run as a process under the sanitizers.

`python -m tests.native_fuzz --seed 7 --rounds 50 [--library PATH]` ends with one line of JSON, or
with the seed and place of the first difference.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, Producer

from connectors.kafka.client import QUIET
from connectors.native.level import load_native, plugin_config
from flows.ingest import make_checker
from flows.steps.check import BlockChecker
from schemas.blocks import Origin, OutRecord
from schemas.bodies import words_of
from schemas.fates import Refusal
from schemas.ticket import ATTRIBUTES, PLAIN_FORMS, Ticket
from schemas.ticket_reader import UNREADABLE, TicketReader
from tests import native_bodies, native_sweeps, native_wire
from tests.messages import FULL, NOW_MS, policy, settings, ticket_headers

Raw = list[tuple[bytes, bytes | None]]

TIMES: Final = [
    "2024-02-29T00:00:00.000Z",
    "2026-02-29T00:00:00.000Z",
    "2100-02-29T00:00:00.000Z",
    "2000-02-29T23:59:59.999Z",
    "1970-01-01T00:00:00.000Z",
    "1969-12-31T23:59:59.999Z",
    "2026-13-01T00:00:00.000Z",
    "2026-00-10T00:00:00.000Z",
    "2026-04-31T00:00:00.000Z",
    "2026-01-01T24:00:00.000Z",
    "2026-01-01T00:60:00.000Z",
    "2026-01-01T00:00:60.000Z",
    "9999-12-31T23:59:59.999Z",
    "0000-01-01T00:00:00.000Z",
    "2026-01-01t00:00:00.000z",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123456Z",
    "2026-01-01T00:00:00.000+01:00",
]
HOPS: Final = [
    "in.c1.0",
    "in.c1.0>va.e1.2>en.e1.5p",
    "in.c1.0>in.c1.1",
    "in.c1.0>rp.x.1>in.c1.2",
    "~3>in.c1.0",
    "~0>in.a.0",
    "in.c1.0>~12>ro.a1.1A",
    "~1234567",
    "in..0",
    "in.c1.",
    "xx.c1.0",
    "in.c1.0z",
    "in.c1.0pmdteulqr",
    "in.c1.0pmdteulqrp",
    "in.abcdefghijklmnop.0",
    "in.abcdefghijklmnopq.0",
    "in.c1.01234567890",
    "in.c1.012345678901",
    ">",
    "in.c1.0>",
    "rp.a.0>rp.a.1",
    "IN.c1.0",
    "in.C1.0",
    "in.c1.0pa",
]
TRACES: Final = (
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
)
IDS: Final = (
    "1234567",
    "12345678",
    "x" * 64,
    "x" * 65,
    "a.b:c-d_e",
    "a b",
    "",
    "ü" * 9,
    "a\n",
    "\0",
)
CLASSES: Final = ("PUBLIC", "INTERNAL", "GDPR,PII", "PII,GDPR", "PCI", "NOPE", "GDPR, PII", ",")
EDGES: Final = {
    **dict.fromkeys(("ce_time", "ce_recordedtime", "ce_expirytime"), TIMES),
    **dict.fromkeys(("ce_id", "ce_subject", "ce_correlationid", "ce_causationid"), IDS),
    "ce_datahops": HOPS,
    "traceparent": TRACES,
    "ce_dataclassification": CLASSES,
    "ce_datapolicy": ("0", "1", "9999999999", "01", "x"),
}
_NAMES: Final = (b"x", b"\xff\xfe", b"", "ø".encode(), b"n" * 200, b"ce_id ", b"CE_ID", b"ce_i")
_SHORT: Final = {full: short for short, full in PLAIN_FORMS.items()}


def draw_message(rng: random.Random, number: int) -> Raw | None:
    """A valid ticket, changed a few times or not at all."""
    more: dict[str, Any] = {name: FULL[name] for name in FULL if rng.random() < 0.3}
    if rng.random() < 0.3:
        more |= {"dataclassification": "INTERNAL", "datacategory": None, "subject": None}
    at_ms = NOW_MS + rng.randrange(10**9)
    headers = ticket_headers(number, at_ms=at_ms, **more)
    raw: Raw = [(name.encode(), value) for name, value in headers]
    if rng.random() < 0.2:
        raw += [(b"traceparent", TRACES[0].encode()), (b"tracestate", b"a=1")]
    if rng.random() < 0.02:
        return rng.choice([None, []])
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        raw = rng.choice(CHANGES)(rng, raw)
    return raw


def _drop(rng: random.Random, raw: Raw) -> Raw:
    gone = rng.randrange(len(raw) + 1)
    return raw[:gone] + raw[gone + 1 :]


def _repeat(rng: random.Random, raw: Raw) -> Raw:
    return [*raw, rng.choice(raw)] if raw else raw


def _shuffle(rng: random.Random, raw: Raw) -> Raw:
    return rng.sample(raw, len(raw))


def _with(rng: random.Random, raw: Raw, change: Callable[[bytes], bytes | None]) -> Raw:
    if not raw:
        return raw
    place = rng.randrange(len(raw))
    name, value = raw[place]
    return [*raw[:place], (name, change(value or b"")), *raw[place + 1 :]]


def _null(rng: random.Random, raw: Raw) -> Raw:
    return _with(rng, raw, lambda _: None)


def _cut(rng: random.Random, raw: Raw) -> Raw:
    return _with(rng, raw, lambda value: value[: rng.randrange(len(value) + 1)])


def _spoil(rng: random.Random, raw: Raw) -> Raw:
    def flip(value: bytes) -> bytes:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.randbytes(rng.randrange(3)) + value[at + 1 :]

    return _with(rng, raw, flip)


def _stretch(rng: random.Random, raw: Raw) -> Raw:
    size = rng.choice((64, 255, 1_000, 1_024, 16_000, 16_384, 70_000))
    return _with(rng, raw, lambda value: (value or b"a") * (size // max(len(value), 1)))


def _rename(rng: random.Random, raw: Raw) -> Raw:
    return [(_SHORT.get(name.decode("latin-1"), "").encode() or name, v) for name, v in raw]


def _add(rng: random.Random, raw: Raw) -> Raw:
    added = (rng.choice(_NAMES), rng.choice((None, b"", b"v", rng.randbytes(9), b"x" * 15_000)))
    at = rng.randrange(len(raw) + 1)
    return [*raw[:at], added, *raw[at:]]


def _edge(rng: random.Random, raw: Raw) -> Raw:
    name = rng.choice(list(EDGES))
    return [(n, v) for n, v in raw if n.decode("latin-1") != name] + [
        (name.encode(), rng.choice(EDGES[name]).encode())
    ]


def _crowd(rng: random.Random, raw: Raw) -> Raw:
    """More names than a batch keeps, so that some of ours come too late."""
    odd: Raw = [(b"x-%d" % rng.randrange(200), b"") for _ in range(rng.choice((1, 1, 1, 80)))]
    return odd + raw


def _any_attribute(rng: random.Random, raw: Raw) -> Raw:
    return [*raw, (rng.choice(ATTRIBUTES).encode(), rng.randbytes(rng.randrange(12)))]


CHANGES: Final = (
    *(
        _drop,
        _repeat,
        _shuffle,
        _null,
        _cut,
        _spoil,
        _stretch,
        _rename,
        _add,
        _any_attribute,
        _crowd,
    ),
    *(_edge, _edge, _edge, _edge),
)


def as_client_gives(raw: Raw | None) -> list[tuple[str, bytes | None]] | None:
    """Header names as text; one that is not UTF-8 makes all of them unreadable."""
    if raw is None:
        return None
    try:
        return [(name.decode(), value) for name, value in raw]
    except UnicodeDecodeError:
        return [(UNREADABLE, None)]


def _look(verdict: Ticket | Refusal | None) -> Any:
    """A verdict by what it says: labels are compared by their fields, and not as objects."""
    if not isinstance(verdict, Ticket):
        return verdict
    return msgspec.structs.astuple(verdict.label), msgspec.structs.astuple(verdict)[1:]


def compare(native: Any, rng: random.Random, readers: tuple[TicketReader, TicketReader]) -> int:
    """One batch through both levels. Shapes: how many the library read by itself."""
    size = rng.choice((0, 1, 7, 300))
    raws = [draw_message(rng, number) for number in range(size)]
    rows = [
        (n % 4, n, NOW_MS, b"k" if n % 3 else None, b"v" * (n % 5), raw)
        for n, raw in enumerate(raws)
    ]
    batch = native.make_batch("t", rows)
    plain = [as_client_gives(raw) for raw in raws]
    assert plain == list(batch), "headers differ"
    assert ([row[3] for row in rows], [row[4] for row in rows]) == (batch.keys(), batch.values())
    tickets, refusals = readers[0].read_block(batch)
    for place, headers in enumerate(plain):
        expected = readers[1].read(headers)
        found = refusals.get(place) or tickets[place]
        assert _look(expected) == _look(found), f"message {place}: {expected!r} and {found!r}"
    native_wire.compare(native, rng, raws)
    return size - len(native.Scanner().scan(batch)[3])


def use_clients(native: Any, rng: random.Random) -> None:
    """Clients that reach nobody: records go in, are given up, and that is told."""
    quiet = {"logger": QUIET, "log_level": 0}
    consumer = Consumer(plugin_config({**quiet, "group.id": "fuzz"}))
    reader = native.Reader()
    for partition in range(3):
        reader.forward("t", partition)
    assert ([], []) == reader.fetch(100, 0)
    consumer.close()
    producer = Producer(plugin_config({**quiet, "queue.buffering.max.messages": 50}))
    writer = native.Writer()
    raws = [raw or [] for raw in (draw_message(rng, number) for number in range(40))]
    plain = [
        [(name, v) for name, v in as_client_gives(raw) or () if "\0" not in name] for raw in raws
    ]
    records = [OutRecord("t", None, b"v", headers, Origin("t", 0, 0)) for headers in plain]
    assert (40, 0) == writer.produce(records, 0)
    batch = native.make_batch("t", [(0, n, 0, b"k", b"v", raw) for n, raw in enumerate(raws)])
    doors = bytes(rng.choice((0, 1, 255)) for _ in raws)
    others = [[("ce_id", b"new"), ("added", None)] for _ in raws]
    _, code = writer.forward(batch, doors, ["t", "u"], others, 0)
    full = KafkaError._QUEUE_FULL
    assert code == (full if len(doors) - doors.count(255) > 10 else 0), f"code {code}"
    assert writer.failure() is None
    producer.purge()
    producer.poll(0)
    assert ("t", KafkaError._PURGE_QUEUE) == writer.failure()
    use_columns(writer, rng)
    producer.purge()
    producer.poll(0)


def use_columns(writer: Any, rng: random.Random) -> None:
    """Records by column, into the room of 50 that a client has."""
    size = rng.randrange(80)
    labels = [(n % 2, [("l", b"%d" % n)] * rng.randrange(4)) for n in range(5)]
    numbers = np.array([rng.randrange(5) for _ in range(size)], np.int64)
    columns = [
        (f"c{n}", [rng.choice((None, b"", rng.randbytes(9))) for _ in range(size)])
        for n in range(rng.randrange(6))
    ]
    rests = [(("r", rng.choice((None, b"v"))),) * rng.randrange(3) for _ in range(size)]
    keys = [rng.choice((None, b"", b"key")) for _ in range(size)]
    values = [rng.choice((None, b"", rng.randbytes(300))) for _ in range(size)]
    rests = rests if rng.random() < 0.5 else []
    told = (labels, numbers.tobytes(), columns, rests, keys, values)
    place, code = writer.stamp(["t", "u"], *told, 0)
    assert (place, code) == (min(size, 50), KafkaError._QUEUE_FULL if size > 50 else 0)


def use_ids(native: Any, rng: random.Random) -> None:
    """Identifiers against a dictionary, and dumps with every kind of damage."""
    ids, known = native.Ids(rng.getrandbits(64), None), dict[bytes, int]()
    for _ in range(20):
        drawn = [rng.randbytes(rng.choice((0, 1, 2, 7, 8, 9, 40))) for _ in range(500)]
        expected = [known.setdefault(one, len(known)) for one in drawn]
        found = memoryview(ids.rows(drawn, True)).cast("q").tolist()
        assert expected == found, "rows differ"
    assert list(known) == [ids[row] for row in range(len(ids))]
    dumped = ids.dump()
    assert dumped == native.Ids(rng.getrandbits(64), dumped).dump()
    for _ in range(50):
        at = rng.randrange(len(dumped))
        damaged = rng.choice((dumped[:at], dumped[:at] + rng.randbytes(4) + dumped[at + 4 :]))
        try:
            native.Ids(1, damaged)
        except ValueError:
            continue


def hold(
    native: Any,
    reader: TicketReader,
    raws: list[Raw | None],
    checker: BlockChecker,
    drawn: list[Any],
) -> None:
    """Use everything once with the same messages: what is kept after many times is a leak."""
    memory, _ = native_bodies.both(native, "ntf.engagement.v1", drawn)
    block = checker.check(memory)
    list(words_of(block.bodies, "campaign", range(len(drawn))))
    list(block.bodies)
    rows = [(0, n, NOW_MS, b"key%d" % n, b"v" * 150, raw) for n, raw in enumerate(raws)]
    batch = native.make_batch("t", rows)
    reader.read_block(batch)
    ids = native.Ids(1, None)
    ids.key_rows(batch, True)
    native.Ids(2, ids.dump())
    assert batch == list(batch)


def resident_kbytes() -> int:
    """The memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--steady", type=int, default=0)
    parser.add_argument("--library", type=Path)
    args = parser.parse_args()
    if args.library is not None:
        name = "connectors.native._native"
        spec = importlib.util.spec_from_file_location(name, args.library)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    native = load_native()
    readers = (TicketReader(policy()), TicketReader(policy()))
    checkers = [make_checker(settings(), policy()) for _ in range(2)]
    corpus = native_bodies.examples()
    plain = bodies = 0
    memory = []
    for number in range(args.rounds):
        rng = random.Random(args.seed * 1_000_003 + number)
        plain += compare(native, rng, readers)
        bodies += native_bodies.compare(native, rng, corpus, checkers)
        if number % 10 == 0:
            use_ids(native, rng)
            native_sweeps.compare_drawn(native.sweep, rng)
            use_clients(native, rng)
    steady = [draw_message(random.Random(5), number) for number in range(300)]
    drawn = [native_bodies.draw(random.Random(n), corpus) for n in range(40)]
    for number in range(args.steady):
        hold(native, readers[0], steady, checkers[0], drawn)
        if number % 100 == 0:
            memory.append(resident_kbytes())
    found = {"rounds": args.rounds, "plain": plain, "bodies": bodies, "kbytes": memory}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
