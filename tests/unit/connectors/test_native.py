"""The native library without a broker: same answers as Python, and nothing it must not do."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, Message, Producer

from connectors.kafka.intake import sort_out
from connectors.native import build, level
from connectors.native.intake import Batches, Copy
from connectors.native.level import choose_level, plugin_config
from flows.ingest import make_checker
from schemas.errors import ConfigError
from schemas.ticket import ATTRIBUTES, LABEL_NAMES, PLAIN_FORMS, hash64, sign
from schemas.ticket_reader import TicketReader
from tests import native_bodies, native_fuzz, native_wire
from tests.messages import NOW_MS, delivered, policy, settings
from tests.unit.connectors.conftest import go_without

TOP = Path(__file__).parents[3]


def rows() -> list[tuple[Any, ...]]:
    odd = [(b"a", b"\xff"), (b"a", None), (b"", b""), ("ü".encode(), b"x")]
    return [
        (1, 7, 123, b"k", b"v", odd),
        (0, 3, -1, None, None, None),
        (2, 1 << 40, NOW_MS, b"", b"", [(b"\xff\xfe", b"x"), (b"n", b"y")]),
        (0, 4, 0, b"", b"x" * 100_000, []),
    ]


def test_a_batch_gives_back_what_it_was_given(native: Any) -> None:
    batch = native.make_batch("t", rows())

    assert ["t", 4] == [batch.topic(), len(batch)]
    assert [1, 0, 2, 0] == batch.partitions()
    assert [7, 3, 1 << 40, 4] == batch.offsets()
    assert [123, -1, NOW_MS, 0] == batch.timestamps()
    assert [row[3] for row in rows()] == batch.keys()
    assert [row[4] for row in rows()] == batch.values()
    assert [native_fuzz.as_client_gives(row[5]) for row in rows()] == list(batch)
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            batch[wrong]
    assert list(batch)[-1] == batch[-1]
    for part in (slice(1, 3), slice(2, 9), slice(None, None, -2), slice(4, None)):
        assert list(batch)[part] == batch[part]


def test_signed_tickets_are_checked_the_same_on_both_levels(native: Any) -> None:
    """Signatures are made over all headers, so these are taken apart in Python, run by run."""
    checker = make_checker(settings(ticket_key="k" * 44), policy())
    sent = native_bodies.examples()[0]
    signed = [*sent.headers, ("ce_ticketmac", sign(sent.headers, b"k" * 44))]
    drawn = [
        (headers, sent.key, native_bodies.write(sent.fields))
        for headers in (sent.headers, signed) * 150
    ]
    found, expected = map(
        checker.check, native_bodies.both(native, native_bodies.topic_of(sent), drawn)
    )

    assert set(range(0, 300, 2)) == expected.refusals.keys()
    assert expected.refusals == found.refusals
    assert list(expected.tickets) == list(found.tickets)
    assert list(expected.bodies) == list(found.bodies)


def test_a_batch_that_travels_to_another_process_is_a_list_there(native: Any) -> None:
    batch = native.make_batch("t", rows())

    assert list(batch) == pickle.loads(pickle.dumps(batch))


def test_messages_that_are_held_one_by_one_are_like_the_clients_own(native: Any) -> None:
    message = Message("t", 1, 7, b"k", b"v", [("a", b"\xff")], None, (1, 123))
    batch = native.make_batch("t", [(1, 7, 123, b"k", b"v", [(b"a", b"\xff")])])

    [copy] = Batches([batch], []).messages()

    assert Copy.of(message) == copy
    assert [copy] == sort_out([copy]).messages()


def test_the_label_parts_are_the_readers(native: Any) -> None:
    raw = [(name.encode(), value) for name, value in delivered(1).headers]
    _, fresh, _, suspects, _, _ = native.Scanner().scan(
        native.make_batch("t", [(0, 0, 0, None, None, raw)])
    )
    given = {PLAIN_FORMS.get(name, name): value for name, value in delivered(1).headers}

    assert [] == suspects
    assert [tuple(given.get(name) for name in LABEL_NAMES)] == fresh
    assert set(LABEL_NAMES) <= set(ATTRIBUTES)


def test_an_ordinary_ticket_needs_no_second_look(native: Any) -> None:
    """Otherwise everything would be right, and nothing would be faster."""
    rng = random.Random(5)
    reader = TicketReader(policy())
    batch_rows = [
        (0, n, NOW_MS, None, None, [(k.encode(), v) for k, v in delivered(n).headers])
        for n in range(100)
    ]
    batch = native.make_batch("t", batch_rows)

    assert [] == native.Scanner().scan(batch)[3]
    assert native_fuzz.compare(native, rng, (reader, reader)) >= 0
    tickets, refusals = reader.read_block(batch)
    assert {} == refusals
    assert [reader.read(headers) for headers in batch] == list(tickets)


def test_more_labels_than_are_kept_are_read_all_the_same(native: Any) -> None:
    reader = TicketReader(policy())
    for first in (0, 5_000):
        raws = [
            [(k.encode(), v) for k, v in delivered(n, source=f"/sender/{n}").headers]
            for n in range(first, first + 5_000)
        ]
        batch = native.make_batch("t", [(0, 0, 0, None, None, raw) for raw in raws])
        tickets, refusals = reader.read_block(batch)

        assert {} == refusals
        found = [tickets.labels[number].source for number in tickets.numbers.tolist()]
        assert [f"/sender/{n}" for n in range(first, first + 5_000)] == found


@pytest.mark.parametrize("seed", range(4))
def test_odd_headers_get_the_verdicts_of_the_pure_level(native: Any, seed: int) -> None:
    readers = (TicketReader(policy()), TicketReader(policy()))
    rng = random.Random(seed)

    assert sum(native_fuzz.compare(native, rng, readers) for _ in range(20)) > 0


@pytest.mark.parametrize("seed", range(4))
def test_headers_are_read_from_the_wire_as_they_were_sent(native: Any, seed: int) -> None:
    rng = random.Random(seed)
    raws = [native_fuzz.draw_message(rng, number) for number in range(1_000)]
    raws += [[(b"a\0b", b"x"), (b"\0", None)], [(b"n" * 300, b"v" * 70_000)] * 70, []]
    whole = [native_wire.encode(raw or []) for raw in raws]
    batch = native.make_batch("t", [(0, 0, 0, None, None, wire) for wire in whole])

    assert [native_wire.decode(wire) for wire in whole] == list(batch)
    assert 500 < native_wire.compare(native, rng, raws) < 1_000


def test_records_that_nobody_takes_are_told_of(native: Any) -> None:
    native_fuzz.use_clients(native, random.Random(1))


def test_identifiers_keep_their_rows(native: Any) -> None:
    native_fuzz.use_ids(native, random.Random(2))


def test_a_reader_without_a_client_is_refused(native: Any) -> None:
    with pytest.raises(RuntimeError, match="no client was made"):
        native.Reader()


def test_a_writer_outlives_its_client_without_harm(native: Any) -> None:
    producer = Producer(plugin_config({"log_level": 0}))
    writer = native.Writer()
    del producer

    with pytest.raises(RuntimeError, match="the client is closed"):
        writer.produce([], 0)
    assert writer.failure() is None


@pytest.mark.parametrize("record", [("t", "text", b"", []), ("t", None, b"", [("a",)]), ("t",)])
def test_a_record_of_another_form_is_an_error(native: Any, record: Any) -> None:
    producer = Producer(plugin_config({"log_level": 0}))
    writer = native.Writer()

    with pytest.raises((TypeError, IndexError)):
        writer.produce([record], 0)
    assert len(producer) == 0


def found_of(native: Any, size: int) -> Any:
    batch = native.make_batch("t", [(0, n, 0, b"k", b"v", []) for n in range(size)])
    return native.Scanner().scan(batch)[5]


@pytest.mark.parametrize("first", [0, 120, 250, 5_000])
def test_events_are_told_apart_by_the_hashes_of_hashlib(native: Any, first: int) -> None:
    rng = random.Random(first)
    size = 140
    values = [
        rng.choice((None, b"")) if n % 50 == 49 else rng.randbytes(first + n) for n in range(size)
    ]
    ids = ["x" * rng.randrange(300) for _ in range(size)]
    kinds = [b"", b"a kind\0", rng.randbytes(128)]
    numbers = np.array([rng.randrange(3) for _ in range(size)])
    times = np.array(
        [rng.choice((0, -1, rng.getrandbits(62), -(2**63), 2**63 - 1)) for _ in values]
    )
    numbers[7] = -1

    events, contents = found_of(native, 1).hashes(
        ids, values, kinds, numbers.tobytes(), times.tobytes()
    )

    told = zip(numbers.tolist(), times.tolist(), values, strict=True)
    expected = [hash64(b"%b%d\0%b" % (kinds[kind], at, value or b"")) for kind, at, value in told]
    expected[7] = 0
    assert expected == np.frombuffer(contents, "<u8").tolist()
    expected = [hash64(one.encode()) for one in ids]
    expected[7] = 0
    assert expected == np.frombuffer(events, "<u8").tolist()


def test_hashes_of_columns_of_another_form_are_an_error(native: Any) -> None:
    found = found_of(native, 1)
    one = np.zeros(1, np.int64).tobytes()
    for wrong in (
        (["a"], [b"v"], [b""], one, one + one),
        (["a"], [b"v", b"v"], [b""], one, one),
        (["a", "b"], [b"v"], [b""], one, one),
        ([1], [b"v"], [b""], one, one),
        (["a"], [1], [b""], one, one),
        (["a"], [b"v"], [1], one, one),
        (("a",), [b"v"], [b""], one, one),
        (7, [b"v"], [b""], one, one),
        (found.texts()[8], [b"v"], [b""], one, one),
        (["a"], native.make_batch("t", [(0, 1, 2, b"k", b"v", [])]).offsets(), [b""], one, one),
    ):
        with pytest.raises((TypeError, ValueError, SystemError)):
            found.hashes(*wrong)


def test_a_full_queue_says_where_it_ended(native: Any) -> None:
    producer = Producer(plugin_config({"log_level": 0, "queue.buffering.max.messages": 3}))
    writer = native.Writer()
    records = [("t", None, b"v", [("a", None)])] * 5

    assert (3, KafkaError._QUEUE_FULL) == writer.produce(records, 0)
    producer.purge()
    producer.poll(0)


def stamp(writer: Any, first: int = 0, **other: Any) -> Any:
    """Five records of two labels, with one thing changed."""
    given: dict[str, Any] = {
        "topics": ["t", "u"],
        "labels": [(0, [("a", b"1")]), (1, [])],
        "numbers": np.array([0, 1, 0, 1, 0]).tobytes(),
        "columns": [("b", [b"x", None, b"", b"y", b"z"])],
        "rests": [(("c", b"3"), ("c", None)), (), (), (), ()],
        "keys": [None, b"k", b"k", b"k", b"k"],
        "values": [b"v", None, b"v", b"v", b"v"],
    }
    return writer.stamp(*(given | other).values(), first)


def test_a_full_queue_says_where_columns_ended(native: Any) -> None:
    producer = Producer(plugin_config({"log_level": 0, "queue.buffering.max.messages": 3}))
    writer = native.Writer()

    assert (3, KafkaError._QUEUE_FULL) == stamp(writer)
    assert (4, KafkaError._QUEUE_FULL) == stamp(writer, 4)
    assert (5, 0) == stamp(writer, 5)
    producer.purge()
    producer.poll(0)


@pytest.mark.parametrize(
    "other",
    [
        {"numbers": np.array([0, 1, 0, 1, 2]).tobytes()},
        {"numbers": np.array([-1, 1, 0, 1, 0]).tobytes()},
        {"numbers": np.zeros(6, np.int64).tobytes()},
        {"labels": [(0, []), (2, [])]},
        {"labels": [(0, []), (-1, [])]},
        {"labels": [(0, []), ("u", [])]},
        {"labels": [(0, []), (1,)]},
        {"labels": [(0, []), (1, None)]},
        {"labels": [(0, []), (1, [("a", "text")])]},
        {"columns": [("b", [b"x"])]},
        {"columns": [("b", (b"x",) * 5)]},
        {"columns": [(b"b", [b"x"] * 5)]},
        {"columns": [("b", ["x"] * 5)]},
        {"columns": ["b"]},
        {"rests": [()]},
        {"rests": [None] * 5},
        {"keys": [b"k"]},
        {"keys": ["k"] * 5},
        {"values": [b"v"] * 4},
        {"values": [1] * 5},
        {"topics": [f"t{number}" for number in range(65)]},
        {"topics": ["t", 1]},
        {"topics": []},
    ],
)
def test_columns_of_another_form_are_an_error(native: Any, other: dict[str, Any]) -> None:
    producer = Producer(plugin_config({"log_level": 0}))
    writer = native.Writer()

    with pytest.raises((TypeError, IndexError, ValueError, SystemError)):
        stamp(writer, **other)
    with pytest.raises(ValueError, match="before the first"):
        stamp(writer, -1)
    producer.purge()
    producer.poll(0)


def test_memory_stays_as_it_is_after_many_batches(native: Any) -> None:
    found = run_fuzz("--seed", "1", "--rounds", "1", "--steady", "800")

    assert found["kbytes"][-1] - found["kbytes"][1] < 2_048  # 240,000 messages, about 100 MB


def run_fuzz(*arguments: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.native_fuzz", *arguments],
        cwd=TOP,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return json.loads(done.stdout)


def test_the_sanitizers_find_nothing(native: Any, tmp_path: Path) -> None:
    """Bounds, lifetimes, overflows and null pointers, in all that the odd headers reach."""
    compiler = build.find_compiler()
    library = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(library).is_absolute():
        go_without("the compiler brings no sanitizers")
    target = build.build(tmp_path / "_native.abi3.so", (*build.SANITIZE, *build.STRICT))

    found = run_fuzz(
        *("--seed", "4", "--rounds", "11", "--steady", "20", "--library", str(target)),
        LD_PRELOAD=library,
        # Python itself frees nothing at its end, so leaks are looked for above.
        ASAN_OPTIONS="detect_leaks=0",
        PYTHONMALLOC="malloc",
    )

    assert found["plain"] > 0
    assert found["bodies"] > 0


def test_without_the_library_the_level_is_pure_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(level, "find_fault", lambda: "the native library is not built")

    assert ("pure", "the native library is not built") == choose_level("auto")
    with pytest.raises(ConfigError, match="found native, and the native library is not built"):
        choose_level("native")


def test_a_machine_without_a_compiler_installs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = TOP / "infra" / "build_hook.py"
    spec = importlib.util.spec_from_file_location("build_hook", path)
    assert spec is not None
    assert spec.loader is not None
    hook_module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook_module)
    told: list[str] = []

    class App:
        display_warning = told.append

    monkeypatch.setenv("PATH", str(tmp_path))
    data: dict[str, Any] = {"force_include": {}}
    hook = hook_module.CustomBuildHook(str(TOP), {}, None, None, "", "wheel", App())
    hook.initialize("standard", data)

    assert {"force_include": {}} == data
    assert ["the native level is not built, which is fine: no C compiler is installed"] == [
        line.partition(": none of")[0] for line in told
    ]
