"""Bodies out of the library's memory: the pure level's verdicts and values, without objects."""

from __future__ import annotations

import pickle
import random
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from flows.ingest import make_checker, make_gate
from flows.steps.check import BlockChecker
from schemas.blocks import CheckedBlock, Outputs
from schemas.bodies import Bodies
from schemas.events import EVENT_TYPES
from schemas.events.plan import Kind, plan_of
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


@pytest.mark.parametrize(
    "plan",
    [
        ((), 17, 0, 0),
        ((), 1, 1, 0),
        ((((b"n" * 70, True, False, -1, (4,) + (0,) * 7 + ((), None, None)),),), 1, 0, 0),
        (
            (((b"n", True, False, 0, (4, False, 0, 0, 0.0, 0.0, False, False, (), None, None)),),),
            1,
            0,
            0,
        ),
        (
            (((b"n", True, False, -1, (5, False, 0, 0, 0.0, 0.0, False, False, (), None, None)),),),
            1,
            0,
            0,
        ),
    ],
)
def test_a_plan_out_of_bounds_is_an_error(native: Any, plan: Any) -> None:
    with pytest.raises(ValueError, match=r"out of bounds|has none|is none"):
        native.Bodies(plan)
