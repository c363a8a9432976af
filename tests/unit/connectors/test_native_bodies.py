"""Bodies out of the library's memory: the pure level's verdicts and values, without objects."""

from __future__ import annotations

import ctypes
import pickle
import random
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import create_model

from flows.ingest import make_checker, make_gate
from flows.steps.accept import accepted_block
from flows.steps.check import BlockChecker
from schemas.blocks import CheckedBlock, Outputs
from schemas.bodies import Bodies, bodies_at
from schemas.events import EVENT_TYPES, EventType
from schemas.events.body import EventBody
from schemas.events.fast import derive
from schemas.events.plan import FIELDS_MAX, SLOTS, Kind, plan_of
from tests import native_bodies
from tests.bench.corpus import Corpus
from tests.bench.effort import START_MS, block_of
from tests.messages import policy, settings

PLANS = dict(zip(EVENT_TYPES, plan_of(EVENT_TYPES)[0], strict=True))


def decoded_of(native: Any, *sent: native_bodies.Sent) -> tuple[CheckedBlock, dict[int, Any]]:
    """A block of these messages, and the bodies that had to be decoded."""
    drawn = [(one.headers, one.key, native_bodies.write(one.fields)) for one in sent]
    memory, _ = native_bodies.both(native, native_bodies.topic_of(sent[0]), drawn)
    block = checker().check(memory)
    assert isinstance(block.bodies, Bodies)
    return block, block.bodies.decoded


@cache
def checker() -> BlockChecker:
    return make_checker(settings(), policy())


@pytest.mark.parametrize("seed", range(3))
def test_odd_bodies_get_the_verdicts_of_the_pure_level(native: Any, seed: int) -> None:
    checkers = [make_checker(settings(), policy()) for _ in range(2)]
    corpus, rng = native_bodies.examples(), random.Random(seed)

    rounds = [native_bodies.compare(native, rng, corpus, checkers) for _ in range(20)]

    assert sum(rounds) > 0


def test_an_ordinary_body_needs_no_second_look(native: Any) -> None:
    """Otherwise everything would be right, and nothing would be faster."""
    left = set()
    for sent in native_bodies.examples():
        name = (dict(sent.headers)["ce_type"] or b"").decode()
        fields = dict(sent.fields)
        others = [field for field in PLANS[name] or () if field[4][0] == Kind.OTHER]
        _, decoded = decoded_of(native, sent)
        if any(field[0] in fields for field in others):
            left.add(name)
        else:
            assert {} == decoded, name

    assert len(left) < len(EVENT_TYPES) / 3


def test_a_field_with_a_pattern_is_left_to_the_decoder(native: Any) -> None:
    payment = next(
        sent
        for sent in native_bodies.examples()
        if ("ce_type", b"ntf.outcome.payment_received.v1") in sent.headers
    )
    wrong = payment._replace(
        fields=[(n, b'"euro"' if n == b"currency" else v) for n, v in payment.fields]
    )

    block, decoded = decoded_of(native, payment, wrong)

    assert {0, 1} == decoded.keys()
    assert {1: "/currency"} == {at: found.pointer for at, found in block.refusals.items()}


def test_a_gate_makes_the_same_of_both_levels(native: Any) -> None:
    raw = block_of(list(Corpus(600, start_ms=START_MS).samples()))
    drawn = list(zip(raw.headers, raw.keys, raw.values, strict=True))
    outputs: list[Outputs] = []
    for block in native_bodies.both(native, raw.topic, drawn, at_ms=START_MS + 700_000):
        some = settings(quarantine_key=None)
        checked = make_checker(some, policy()).check(block)
        outputs.append(make_gate(some, policy(), followed=True).pass_block(checked))
    found, expected = outputs

    assert expected.counts == found.counts
    assert expected.records == found.records
    assert told(expected) == told(found)
    for one, other in zip(expected.rows, found.rows, strict=True):
        assert one.table == other.table
        for name, column in one.columns.items():
            assert plain(column) == plain(other.columns[name]), f"{one.table}.{name}"


def test_what_followers_get_is_decoded_once_and_the_rest_not_at_all(native: Any) -> None:
    right = find("ntf.engagement.opened.v1")
    block, decoded = decoded_of(native, *[right] * 4, right._replace(fields=[]), right)
    assert isinstance(block.bodies, Bodies)
    asked: list[Any] = []
    [decode] = block.bodies._decoders

    def count(value: Any) -> Any:
        asked.append(value)
        return decode(value)

    block.bodies._decoders = [count]
    found = accepted_block(block, [0, 2, 5], watermark_ms=0, zones={})

    assert {4} == decoded.keys()
    assert [decode(native_bodies.write(right.fields))] * 3 == found.bodies
    assert 3 == len(asked)
    assert [None] == bodies_at(block.bodies, [4])


def told(outputs: Outputs) -> dict[str, Any]:
    """What followers see; labels by what they say, and not as objects."""
    assert outputs.accepted is not None
    labels = [label.pairs for label in outputs.accepted.labels]
    return {**msgspec.structs.asdict(outputs.accepted), "labels": labels}


def plain(column: Any) -> list[Any]:
    made = getattr(column, "tolist", None)
    return list(column) if made is None else list(made())


def test_keys_or_values_that_were_changed_are_not_looked_up_in_the_memory(native: Any) -> None:
    sent = native_bodies.examples()[0]
    drawn = [(sent.headers, sent.key, native_bodies.write(sent.fields))]
    memory, _ = native_bodies.both(native, native_bodies.topic_of(sent), drawn)
    values: Any = memory.values
    values[0] = b"{"
    block = make_checker(settings(), policy()).check(memory)

    assert ["T303"] == [refusal.code for refusal in block.refusals.values()]
    assert not isinstance(block.bodies, Bodies)


def test_a_column_is_a_sequence_that_can_be_changed(native: Any) -> None:
    rows: list[Any] = [(n, n * 10, n * 100, b"k%d" % n if n else None, b"v", []) for n in range(4)]
    batch = native.make_batch("t", rows)
    keys = batch.keys()
    keys[2] = b"other"

    assert [None, b"k1", b"other", b"k3"] == [keys[n] for n in range(4)]
    assert b"k3" == keys[-1]
    keys[-1] = None
    assert [b"k1", b"other", None] == keys[1:]
    keys[0] = b"first"
    assert [b"first", b"k1", b"other", None] == keys
    assert list(keys) == pickle.loads(pickle.dumps(keys))
    assert [2, 1, 0] == [keys.index(b"other"), keys.count(b"other"), keys.count(b"k9")]
    with pytest.raises(ValueError, match="not in"):
        keys.index(b"k9")
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            keys[wrong]
    with pytest.raises(TypeError):
        batch.offsets()[0] = 1


def test_numbers_are_read_where_they_stand(native: Any) -> None:
    rows: list[Any] = [(n, 1 << 40, -n, None, None, []) for n in range(3)]
    batch = native.make_batch("t", rows)

    assert [0, 1, 2] == np.array(batch.partitions(), np.int64).tolist()
    assert [1 << 40] * 3 == np.array(batch.offsets(), np.int64).tolist()
    assert [0, -1, -2] == np.array(batch.timestamps(), np.int64).tolist()
    assert [] == np.array(native.make_batch("t", []).offsets(), np.int64).tolist()


def test_identifiers_of_a_column_need_no_objects(native: Any) -> None:
    keys = native.make_batch("t", [(0, 0, 0, key, None, []) for key in (b"a", None, b"b")]).keys()
    ids = native.Ids(1, None)

    assert [0, -1, 1] == np.frombuffer(ids.rows(keys, True), np.int64).tolist()
    places = np.array([2, 0], np.int64)
    assert [1, 0] == np.frombuffer(ids.rows(keys, False, places), np.int64).tolist()
    with pytest.raises(IndexError):
        ids.rows(keys, False, np.array([3], np.int64))


def test_a_text_that_is_absent_has_the_same_row_in_a_column_and_in_a_list(native: Any) -> None:
    block, _ = decoded_of(native, native_bodies.examples()[0], without_a_cause())
    causes = block.tickets.causations
    # The column first: who goes through it makes it a list.
    found = native.Ids(1, None).rows(causes, True)
    expected = native.Ids(1, None).rows([*causes], True)

    assert "" in causes
    assert expected == found
    assert -1 not in np.frombuffer(found, np.int64)


def without_a_cause() -> native_bodies.Sent:
    sent = native_bodies.examples()[0]
    return sent._replace(headers=[(n, v) for n, v in sent.headers if n != "ce_causationid"])


def test_chosen_words_collide_no_more_than_others(native: Any) -> None:
    """These differ in their last letters only, which were the top bits of the hash."""
    sent = find("ntf.engagement.opened.v1")
    looks = []
    for form in (b'"%08d"', b'"xxxxxx%b"'):
        drawn = [
            sent._replace(fields=[(n, word if n == b"campaign" else v) for n, v in sent.fields])
            for n in range(2_000)
            for word in [
                form % (n * 7_919 if b"d" in form else bytes((PRINTED[n // 90], PRINTED[n % 90])))
            ]
        ]
        block, decoded = decoded_of(native, *drawn)
        assert {} == decoded
        memory = block.tickets.memory
        words, codes = memory.words(SLOTS["campaign"])
        assert list(range(2_000)) == np.frombuffer(codes, np.int64).tolist()
        assert 2_000 == len(set(words))
        looks.append(memory.looks())

    # A table that is at most half full has places to spare: 1.5 looks at each word on average.
    assert max(looks) < 3 * 2_000


PRINTED = [code for code in range(0x20, 0x7F) if code not in b'"\\']


def find(name: str) -> native_bodies.Sent:
    return next(
        sent for sent in native_bodies.examples() if ("ce_type", name.encode()) in sent.headers
    )


def test_a_number_is_not_read_as_a_text_nor_a_text_as_a_number(native: Any) -> None:
    block, _ = decoded_of(native, find("ntf.engagement.opened.v1"))
    memory = block.tickets.memory

    for ask, name in ((memory.fields, "amount_minor"), (memory.words, "amount_minor")):
        with pytest.raises(ValueError, match="of this kind"):
            ask(SLOTS[name])
    with pytest.raises(ValueError, match="of this kind"):
        memory.numbers(SLOTS["journey_id"])
    assert 1 == len(memory.fields(SLOTS["journey_id"]))


def test_a_place_from_the_end_is_that_of_a_list(native: Any) -> None:
    right = find("ntf.engagement.opened.v1")
    wrong = right._replace(fields=[*right.fields, (b"journey_id", b"1")])
    block, decoded = decoded_of(native, right, wrong)
    bodies = block.bodies

    assert {1} == decoded.keys()
    assert bodies[-1] is None
    assert bodies[0] == bodies[-2]
    assert [None] == bodies_at(bodies, [1])
    for place in (2, -3):
        with pytest.raises(IndexError):
            bodies[place]
    assert list(bodies) == bodies_at(bodies, [0, 1])


def test_strided_numbers_are_not_given_as_contiguous_ones(native: Any) -> None:
    """By the numbers of Python's buffer interface, which only C code passes."""
    formatted, shaped, strided, contiguous = 0x4, 0x8, 0x18, (0x38, 0x58, 0x98)
    ask = ctypes.pythonapi.PyObject_GetBuffer
    ask.argtypes = [ctypes.py_object, ctypes.c_char_p, ctypes.c_int]
    view = ctypes.create_string_buffer(128)
    rows: list[Any] = [(0, n, 0, None, None, []) for n in range(4)]
    offsets, one = (native.make_batch("t", some).offsets() for some in (rows, rows[:1]))

    for wrong in (formatted, formatted | shaped, *(formatted | flags for flags in contiguous)):
        with pytest.raises(BufferError):
            ask(offsets, view, wrong)
    for column, flags in ((offsets, strided), *((one, flags) for flags in contiguous)):
        assert 0 == ask(column, view, formatted | flags)
        ctypes.pythonapi.PyBuffer_Release(view)


TRUTH = (4, False, 0, 0, 0.0, 0.0, False, False, (), None, None)
INTEGER = (2, *TRUTH[1:])
TEXT = (0, *TRUTH[1:])


@pytest.mark.parametrize(
    "plan",
    [
        ((), 17, 0, 0),
        ((), 1, 1, 0),
        ((), 1, 0, -2),
        ((((b"n" * 62, True, False, -1, TRUTH),),), 1, 0, 0),
        ((((b"n", True, False, 0, TRUTH),),), 1, 0, 0),
        ((((b"n", True, False, -1, (5, *TRUTH[1:])),),), 1, 0, 0),
        ((((b"n", True, False, 3, TEXT),),), 3, 0, 0),
        ((((b"n", True, False, 1, INTEGER),),), 2, 0, 1),
        ((((b"n", True, False, 1, INTEGER),),), 2, 1, 0),
        ((((b"n", True, False, 2, INTEGER),), ((b"n", True, False, 2, TEXT),)), 3, 0, 1),
    ],
)
def test_a_plan_out_of_bounds_is_an_error(native: Any, plan: Any) -> None:
    with pytest.raises(ValueError, match=r"out of bounds|has none|is none|where texts are"):
        native.Bodies(plan)


def deep(levels: int) -> Any:
    kind: Any = int
    for _ in range(levels):
        kind = tuple[kind, ...]
    return kind


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({f"f{n}": (int, 0) for n in range(FIELDS_MAX - len(EventBody.model_fields))}, True),
        ({f"f{n}": (int, 0) for n in range(FIELDS_MAX)}, False),
        ({"n" * 61: (int, 0)}, True),
        ({"n" * 62: (int, 0)}, False),
        ({"größe": (int, 0)}, False),
        ({"deep": (deep(8), ())}, True),
        ({"deep": (deep(9), ())}, True),  # but for that field
    ],
)
def test_a_model_past_the_librarys_bounds_is_left_to_the_decoder(
    native: Any, fields: dict[str, Any], *, taken: bool
) -> None:
    model = create_model("Model", __base__=EventBody, **fields)
    struct = derive(model)
    kind = EventType("x", "x", "t", model, struct, msgspec.json.Decoder(struct).decode)
    plan = plan_of({"x": kind})

    assert taken == (plan[0][0] is not None)
    native.Bodies(plan)
