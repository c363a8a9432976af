"""A lane's watermark on an Apache Kafka that forgets to end the transaction that holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest
from confluent_kafka import Producer

from connectors.kafka.forgotten import find_open, read_published
from connectors.kafka.transactions import TransactionalPartition
from connectors.kafka.watermark import Found, Watermark, dump_mark, offsets_of
from schemas.blocks import Origin
from tests.integration.test_transactions import FORGETS_IN, Place
from tests.services import Breakable, KafkaService


def told_by_kafka(place: Place) -> Found:
    """The watermark in Kafka, and whether Kafka gives it only to who does not mind."""
    watermark = Watermark({"bootstrap.servers": place.servers}, f"{place.application}.000")
    try:
        return watermark.read(watermark.places([place.source], 0, 1, 30.0), 2.0)
    finally:
        watermark.close()


def epoch(part: TransactionalPartition, place: Place, offsets: Iterable[int]) -> None:
    part.write_batch([place.records(offsets)])


def forget(
    kafka: Breakable, prefix: str, begin: Callable[[Place, TransactionalPartition], None]
) -> Place:
    """A place whose lane committed 0 to 4, and then was killed between the steps of a commit.

    Kafka gives that transaction up as it starts, and does not say so to the group.
    """
    for number in range(FORGETS_IN):
        place = Place(kafka.bootstrap_servers, f"{prefix}{number}", "pure")
        part = place.open(timeout_s=1.5)
        epoch(part, place, range(5))
        part.snapshot()
        begin(place, part)
        mark = {(place.source, 0): 9}
        part._producer.send_offsets_to_transaction(offsets_of(mark), part._watermark.group(), 30.0)
        kafka.kill()
        time.sleep(2.0)
        kafka.start()
        time.sleep(3.0)
        if (found := told_by_kafka(place)).is_held:
            assert {(place.source, 0): 5} == found.mark
            return place
    raise AssertionError("Kafka forgot none of them: has it learned to end what it gave up?")


def with_records(place: Place, part: TransactionalPartition) -> None:
    epoch(part, place, range(5, 9))
    part._producer.flush(30.0)


def without_records(_: Place, part: TransactionalPartition) -> None:
    part._begin()


def check_all_once(place: Place, part: TransactionalPartition) -> None:
    """The engine repeats what it did not save; the lane goes on."""
    epoch(part, place, range(12))
    part.snapshot()
    assert list(range(12)) == place.committed()
    assert not told_by_kafka(place).is_held
    assert {(place.source, 0): 12} == told_by_kafka(place).mark
    assert {} == find_open({"bootstrap.servers": place.servers}, [place.out])


def test_what_was_not_committed_is_aborted(breakable_kafka: Breakable, topic_prefix: str) -> None:
    place = forget(breakable_kafka, topic_prefix, with_records)
    check_all_once(place, place.open(saved=dump_mark({(place.source, 0): 5})))


def test_what_the_engine_saved_was_committed(breakable_kafka: Breakable, topic_prefix: str) -> None:
    place = forget(breakable_kafka, topic_prefix, with_records)
    part = place.open(saved=dump_mark({(place.source, 0): 9}))
    part._end_forgotten()

    assert list(range(9)) == place.committed()
    assert not told_by_kafka(place).is_held
    assert {(place.source, 0): 9} == told_by_kafka(place).mark
    check_all_once(place, part)


def test_what_is_visible_was_committed(breakable_kafka: Breakable, topic_prefix: str) -> None:
    """The process ended with the broker, before its epoch was saved; some ends were written."""
    place = forget(breakable_kafka, topic_prefix, without_records)
    # As if Kafka had written this end, and not that of the watermark.
    ended = Producer(
        {"bootstrap.servers": place.servers, "transactional.id": f"{place.application}.ended"}
    )
    ended.init_transactions(30.0)
    ended.begin_transaction()
    for n in range(5, 9):
        record = place.single(n)
        ended.produce(place.out, record.value, headers=[*record.headers])
    ended.commit_transaction(30.0)

    check_all_once(place, place.open())


@pytest.mark.parametrize(
    ("done_below", "reach"),
    [(0, 3_000), (2_999, 3_000), (3_000, None)],
)
def test_records_count_that_the_watermark_does_not_know(
    real_kafka: KafkaService, topic_prefix: str, done_below: int, reach: int | None
) -> None:
    place = Place(real_kafka.bootstrap_servers, topic_prefix, "pure")
    part = place.open()
    epoch(part, place, range(3_000))
    part.snapshot()

    found = read(place, done_below, since_ms=0)

    assert ({} if reach is None else {(place.source, 0): reach}) == found
    assert {} == read(place, done_below, since_ms=time.time_ns() // 1_000_000 + 60_000)


def read(place: Place, done_below: int, *, since_ms: int) -> dict[tuple[str, int], int]:
    def is_done(origin: Origin) -> bool | None:
        return origin.offset < done_below if origin.partition == 0 else None

    return read_published(
        {"bootstrap.servers": place.servers}, [place.out], since_ms=since_ms, is_done=is_done
    )


def test_records_before_one_that_the_watermark_knows_do_not_count(
    real_kafka: KafkaService, topic_prefix: str
) -> None:
    """As of an input topic that was made anew: old origins lie before the new ones."""
    place = Place(real_kafka.bootstrap_servers, topic_prefix, "pure")
    part = place.open()
    epoch(part, place, [900, 901])
    part.snapshot()
    place.application += "another"
    again = place.open()
    epoch(again, place, [3, 4, 5])
    again.snapshot()

    assert {(place.source, 0): 6} == read(place, 5, since_ms=0)
    assert {} == read(place, 6, since_ms=0)


def test_a_commit_says_when_it_was(real_kafka: KafkaService, topic_prefix: str) -> None:
    place = Place(real_kafka.bootstrap_servers, topic_prefix, "pure")
    part = place.open()
    before_ms = time.time_ns() // 1_000_000
    epoch(part, place, range(5))
    part.snapshot()

    found = told_by_kafka(place)

    assert {(place.source, 0): 5} == found.mark
    assert before_ms <= found.at_ms <= time.time_ns() // 1_000_000


def test_a_watermark_that_kafka_forgot_is_the_saved_one(
    real_kafka: KafkaService, topic_prefix: str
) -> None:
    """As after a group was idle for longer than Kafka keeps its offsets."""
    place = Place(real_kafka.bootstrap_servers, topic_prefix, "pure")
    part = place.open()
    epoch(part, place, range(5))
    saved = part.snapshot()
    part.close()
    place.application += "another"

    again = place.open(saved=saved)
    epoch(again, place, range(7))
    again.snapshot()

    assert list(range(7)) == place.committed()
