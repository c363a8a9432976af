"""The transactional sink on Apache Kafka: once, whatever ends the worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from connectors.kafka.forgotten import Held, find_open, read_done, read_held
from connectors.kafka.transactions import TransactionalPartition, TransactionalSink
from connectors.native.level import Wish
from schemas.blocks import CONTROL_HEADER, ORIGIN_HEADER, Origin, OutRecord
from schemas.errors import ConfigError, PermanentError, TransientError
from schemas.records import Records, Stamped
from schemas.ticket import Header
from tests.services import Breakable, KafkaService
from tests.services_clients import make_topic

LABEL = ("label", b"of all")
FORGETS_IN = 6
"""So many starts of a broker: on a busy machine it may know its partitions in time."""


class Place:
    """An input and an output topic, and sinks between them as a worker would open them."""

    def __init__(self, servers: str, prefix: str, level: Wish, partitions: int = 1) -> None:
        self.partitions = partitions
        self.servers = servers
        self.level = level
        self.application = f"{prefix}app"
        self.keys: dict[int, bytes] = {}
        self.source = make_topic(self.servers, f"{prefix}in", partitions=2)
        self.out = make_topic(self.servers, f"{prefix}out", partitions=partitions)

    def open(
        self,
        timeout_s: float = 60.0,
        step_s_max: float = 60.0,
        saved: dict[str, Any] | None = None,
        **extra: str,
    ) -> TransactionalPartition:
        sink = TransactionalSink(
            bootstrap_servers=self.servers,
            application=self.application,
            lanes=1,
            sources=[self.source],
            outputs=[self.out],
            timeout_s=timeout_s,
            step_s_max=step_s_max,
            level=self.level,
            extra={name.replace("_", "."): value for name, value in extra.items()},
        )
        return sink.open_lane(0, saved)

    def records(self, offsets: Iterable[int], partition: int = 0) -> Records:
        """The first half by column, the others one by one."""
        every = [*offsets]
        half = (len(every) + 1) // 2
        stamped = Stamped(
            source=self.source,
            partitions=np.full(half, partition, np.int64),
            offsets=np.array(every[:half], np.int64),
            topics=[self.out],
            labels=[[LABEL]],
            numbers=np.zeros(half, np.int64),
            columns=[
                ("n", [b"%d" % n for n in every[:half]]),
                (ORIGIN_HEADER, [self.origin(n, partition)[1] for n in every[:half]]),
            ],
            rests=[],
            keys=[None] * half,
            values=[b"%d" % n for n in every[:half]],
        )
        singles = [
            OutRecord(
                self.out,
                None,
                b"%d" % n,
                [LABEL, ("n", b"%d" % n), self.origin(n, partition)],
                Origin(self.source, partition, n),
            )
            for n in every[half:]
        ]
        return Records(stamped, singles)

    def single(self, n: int) -> OutRecord:
        """A record with a key, so that records go to all partitions."""
        headers: list[Header] = [LABEL, ("n", b"%d" % n), self.origin(n)]
        key = self.keys.get(n, b"k%d" % n)
        return OutRecord(self.out, key, b"%d" % n, headers, Origin(self.source, 0, n))

    def origin(self, n: int, partition: int = 0) -> tuple[str, bytes]:
        """The header that says where a record comes from."""
        return ORIGIN_HEADER, str(Origin(self.source, partition, n)).encode()

    def committed(self) -> list[int]:
        """All that a read_committed consumer sees now."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "readers",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(self.out, part, 0) for part in range(self.partitions)])
        values: list[int] = []
        left = self.partitions
        while True:
            message = consumer.poll(30.0)
            assert message is not None
            if message.error():
                left -= 1
                if left:
                    continue
                consumer.close()
                return values
            headers = [*(message.headers() or ())]
            if headers == [(CONTROL_HEADER, b"COMMIT")]:
                continue
            assert [LABEL, ("n", message.value())] == headers[:2]
            values.append(int(message.value() or b""))


@pytest.fixture
def place(real_kafka: KafkaService, topic_prefix: str, level: Wish) -> Place:
    return Place(real_kafka.bootstrap_servers, topic_prefix, level)


def test_an_epoch_is_visible_when_it_ends_and_not_before(place: Place) -> None:
    part = place.open()
    part.write_batch([place.records(range(5))])

    assert [] == place.committed()
    part.snapshot()
    assert list(range(5)) == place.committed()


def test_an_epoch_that_crashed_before_its_commit_is_written_once(place: Place) -> None:
    first = place.open()
    first.write_batch([place.records(range(5))])
    first.snapshot()
    first.write_batch([place.records(range(5, 9))])
    del first  # no close: as after a kill

    again = place.open()
    again.write_batch([place.records(range(5, 12))])
    again.snapshot()

    assert list(range(12)) == place.committed()


def test_an_epoch_that_crashed_after_its_commit_is_not_written_again(place: Place) -> None:
    """Between the sink's commit and the engine's: the engine repeats what is already there."""
    first = place.open()
    first.write_batch([place.records(range(5)), place.records(range(3), partition=1)])
    first.snapshot()
    del first

    again = place.open()
    again.write_batch([place.records(range(7)), place.records(range(4), partition=1)])
    again.snapshot()

    assert sorted([*range(7), *range(4)]) == sorted(place.committed())


def test_without_the_watermark_the_same_crash_doubles(place: Place) -> None:
    """The control: this checker sees duplicates when the protection is taken away."""
    first = place.open()
    first.write_batch([place.records(range(5))])
    first.snapshot()

    again = place.open()
    again._mark.clear()
    again.write_batch([place.records(range(7))])
    again.snapshot()

    assert sorted([*range(5), *range(7)]) == sorted(place.committed())


def test_a_zombie_cannot_commit(place: Place) -> None:
    zombie = place.open()
    zombie.write_batch([place.records(range(5))])
    place.open()

    with pytest.raises(PermanentError, match="could not commit transaction of lane"):
        zombie.snapshot()
    assert [] == place.committed()


def test_several_outputs_of_one_record_stay_together(place: Place) -> None:
    part = place.open()
    part.write_batch([place.records([0, 0, 1])])
    part.snapshot()

    assert [0, 0, 1] == place.committed()


def test_a_worker_that_closes_gives_its_open_epoch_up(place: Place) -> None:
    part = place.open()
    part.write_batch([place.records(range(5))])
    part.close()

    assert [] == place.committed()


def test_an_epoch_without_records_moves_nothing(place: Place) -> None:
    part = place.open()
    part.snapshot()
    part.write_batch([place.records([0])])
    part.snapshot()

    assert [0] == place.committed()


def test_a_broker_that_stays_silent_ends_the_worker_in_bounded_time(
    breakable_kafka: Breakable, topic_prefix: str
) -> None:
    """On one level: the steps are the Python client's on both, and take a minute."""
    place = Place(breakable_kafka.bootstrap_servers, topic_prefix, "pure")
    first = place.open(step_s_max=6.0, socket_timeout_ms="10000")
    first.write_batch([place.records(range(5))])
    breakable_kafka.pause()
    with pytest.raises(TransientError, match="repeated at the next start"):
        first.snapshot()
    breakable_kafka.resume()

    again = place.open()
    again.write_batch([place.records(range(8))])
    again.snapshot()
    assert list(range(8)) == place.committed()


def crash_the_broker_with_an_open_transaction(kafka: Breakable, place: Place) -> None:
    """Its time is over when the broker starts, which then calls it aborted without writing so."""
    part = place.open(timeout_s=1.5)
    part.write_batch([place.records(range(5))])
    part._producer.flush(10.0)
    kafka.kill()
    time.sleep(2.0)
    kafka.start()
    time.sleep(3.0)


def test_a_transaction_that_kafka_forgot_to_abort_never_becomes_visible(
    breakable_kafka: Breakable, topic_prefix: str, level: Wish
) -> None:
    place = Place(breakable_kafka.bootstrap_servers, topic_prefix, level)
    crash_the_broker_with_an_open_transaction(breakable_kafka, place)

    again = place.open()
    again.write_batch([place.records(range(7))])
    again.snapshot()

    assert list(range(7)) == place.committed()
    assert {} == find_open({"bootstrap.servers": place.servers}, [place.out])


def test_without_ending_it_the_next_commit_would_publish_it(
    breakable_kafka: Breakable, topic_prefix: str
) -> None:
    """The control; when this fails, Kafka has learned to end what it gave up."""
    place = Place(breakable_kafka.bootstrap_servers, topic_prefix, "pure")
    for _ in range(FORGETS_IN):
        crash_the_broker_with_an_open_transaction(breakable_kafka, place)
        if find_open({"bootstrap.servers": place.servers}, [place.out]):
            break

    again = place.open()
    again._looks = False
    again.write_batch([place.records(range(7))])
    again.snapshot()

    assert [*range(5), *range(7)] == place.committed()


@pytest.mark.parametrize(
    ("done_below", "first_by", "held"),
    [
        pytest.param(0, "lane", Held(undone=5, leads=True), id="none of it was committed"),
        pytest.param(5, "lane", Held(done=5, leads=True), id="all of it was committed"),
        pytest.param(3, "lane", Held(done=3, undone=2, leads=True), id="two transactions"),
        pytest.param(5, "another", Held(done=5), id="behind another lane's"),
        pytest.param(0, "stranger", Held(undone=5), id="behind a record without an origin"),
    ],
)
def test_what_a_lane_left_open_is_read_and_told_apart(
    real_kafka: KafkaService, topic_prefix: str, done_below: int, first_by: str, held: Held
) -> None:
    place = Place(real_kafka.bootstrap_servers, topic_prefix, "pure")
    config: dict[str, Any] = {"bootstrap.servers": place.servers}
    others = Producer({**config, "transactional.id": f"{topic_prefix}others"})
    ours = Producer({**config, "transactional.id": f"{topic_prefix}ours"})
    for producer in (others, ours):
        producer.init_transactions(30.0)
        producer.begin_transaction()
    if first_by != "lane":
        header = place.origin(0, partition=1) if first_by == "another" else LABEL
        others.produce(place.out, value=b"-1", headers=[header])
        others.flush(30.0)
    for n in range(5):
        ours.produce(place.out, value=b"%d" % n, headers=[place.origin(n)])
    ours.flush(30.0)

    found = read_held(
        config,
        find_open(config, [place.out]),
        is_done=lambda origin: origin.offset < done_below if origin.partition == 0 else None,
    )

    assert {(place.out, 0): held} == found
    ours.abort_transaction(30.0)
    others.abort_transaction(30.0)


MANY = 200
"""Partitions, so that a broker that is killed while it ends a transaction has not ended all."""


class Telling:
    """A producer that says when it begins to commit."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self.commits = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, timeout: float) -> None:
        self.commits.set()
        self._producer.commit_transaction(timeout)


def commit_into_a_killed_broker(
    kafka: Breakable, place: Place, delay_s: float
) -> tuple[TransactionalPartition, dict[str, Any]] | None:
    """The lane whose epoch ended well while some of it stayed open; None where it did not.

    Also what the engine saves of it.
    """
    part = place.open(timeout_s=600.0)
    part.write_batch([[place.single(n) for n in range(10 * MANY)]])
    part._producer.flush(30.0)
    telling = Telling(part._producer)
    part._producer = telling  # type: ignore[assignment] # stands for it
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(part.snapshot)
        assert telling.commits.wait(30.0)
        time.sleep(delay_s)
        kafka.kill()
        kafka.start()
        try:
            saved = ending.result(120.0)
        except (TransientError, PermanentError):
            return None
    part._producer = telling._producer
    is_open = find_open({"bootstrap.servers": place.servers}, [place.out])
    return (part, saved) if is_open else None


def key_of_an_open_partition(place: Place) -> bytes:
    """The key of a record that is under an open transaction."""
    spans = find_open({"bootstrap.servers": place.servers}, [place.out])
    config = {"bootstrap.servers": place.servers}
    first = read_done(config, spans, is_done=lambda _: True)
    return next(iter(first.values()))[0].key() or b""


@pytest.mark.long
@pytest.mark.parametrize(
    "by",
    [
        "the process itself",
        "the process itself, which has to abort what it wrote next",
        "the next start",
        "a start at once",
        "a start at once that knows nothing of it",
    ],
)
def test_a_transaction_that_kafka_forgot_to_commit_is_not_lost(
    breakable_kafka: Breakable, topic_prefix: str, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is ended as it was meant; an abort there would take what nobody repeats."""
    left = None
    for number, delay_ms in enumerate((15, 12, 18, 20, 10, 15, 17, 13, 14, 16)):
        place = Place(breakable_kafka.bootstrap_servers, f"{topic_prefix}{number}", "pure", MANY)
        left = commit_into_a_killed_broker(breakable_kafka, place, delay_ms / 1_000)
        if left is not None:
            break
    assert left is not None, "Kafka forgot none of ten commits: has it learned to end them?"
    part, saved = left

    repeated = [place.single(n) for n in range(10 * MANY)]
    more = MANY if "abort" in by else 1
    if not by.startswith("a start at once"):
        # One more record ends the group's offsets, and what is open in one partition.
        if by != "the process itself":
            # As if it had not seen that the brokers were lost.
            part._notice_outage = lambda: None  # type: ignore[method-assign]
            part._looks = False
        if "abort" in by:
            part._producer = Aborting(part._producer, 2)  # type: ignore[assignment] # stands for it
        # Where the epoch before is open, since a record with its first one's key is there, too.
        place.keys[10 * MANY] = key_of_an_open_partition(place)
        part.write_batch([[place.single(10 * MANY + n) for n in range(more)]])
        saved = part.snapshot()
        assert ("abort" in by) == ("records_restored" in capsys.readouterr().out)
        if "abort" not in by:
            assert (by != "the process itself") == bool(
                find_open({"bootstrap.servers": place.servers}, [place.out])
            )
        part.close()
    knows = by != "a start at once that knows nothing of it"
    again = place.open(saved=saved if knows else None)
    # The engine repeats an epoch that it did not save.
    again.write_batch([[*repeated, *(place.single(10 * MANY + n) for n in range(more + 1))]])
    again.snapshot()

    assert {} == find_open({"bootstrap.servers": place.servers}, [place.out])
    assert list(range(10 * MANY + more + 1)) == sorted(place.committed())


def test_a_broker_that_allows_shorter_transactions_only_says_so(place: Place) -> None:
    """Apache Kafka allows 900 s unless told otherwise."""
    with pytest.raises(ConfigError, match=r"transaction\.max\.timeout\.ms"):
        place.open(timeout_s=1_000.0)


def test_a_transaction_may_stay_open_for_longer_than_a_step_may_take(place: Place) -> None:
    """As in an epoch that waits for ClickHouse: the broker's bound counts, and not a step's."""
    part = place.open(timeout_s=60.0, step_s_max=1.0)
    part.write_batch([place.records(range(5))])
    time.sleep(2.0)
    part.snapshot()

    assert list(range(5)) == place.committed()


class Aborting:
    """A producer whose first commits have to be aborted, as after a broker's restart."""

    def __init__(self, producer: Any, times: int) -> None:
        self._producer = producer
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, timeout: float) -> None:
        if self.left:
            self.left -= 1
            code = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
            raise KafkaException(KafkaError(code, "", False, False, True))
        self._producer.commit_transaction(timeout)


def test_a_transaction_that_has_to_be_aborted_is_written_again(place: Place) -> None:
    part = place.open()
    part._producer = Aborting(part._producer, 2)  # type: ignore[assignment] # stands for it
    part.write_batch([place.records(range(5))])
    part.snapshot()
    part.write_batch([place.records(range(5, 8))])
    part.snapshot()

    assert list(range(8)) == place.committed()


def test_a_transaction_is_not_written_again_without_end(place: Place) -> None:
    part = place.open()
    part._producer = Aborting(part._producer, 99)  # type: ignore[assignment] # stands for it
    part.write_batch([place.records(range(5))])
    with pytest.raises(TransientError, match="OUT_OF_ORDER_SEQUENCE_NUMBER, again"):
        part.snapshot()

    assert [] == place.committed()


class SteadyTime:
    """A clock in place of the module's: it moves when told, and with every sleep."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def monotonic(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds


class SlowAndAborting(Aborting):
    """A producer each of whose commits takes longer than a step may, and then fails."""

    def __init__(self, producer: Any, clock: SteadyTime, step_s: float) -> None:
        super().__init__(producer, 99)
        self.calls = 0
        self._clock = clock
        self._step_s = step_s

    def commit_transaction(self, timeout: float) -> None:
        self.calls += 1
        self._clock.sleep(self._step_s)
        super().commit_transaction(timeout)


def test_all_steps_that_end_an_epoch_have_a_bound_together(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice what one step may take, however many repeats would be left."""
    part = place.open(step_s_max=10.0)
    clock = SteadyTime()
    monkeypatch.setattr("connectors.kafka.transactions.time", clock)
    monkeypatch.setattr("connectors.kafka.steps.time", clock)
    slow = SlowAndAborting(part._producer, clock, 11.0)
    part._producer = slow  # type: ignore[assignment] # stands for it
    part.write_batch([place.records(range(5))])
    with pytest.raises(TransientError, match="repeated at the next start"):
        part.snapshot()

    assert 3 == slow.calls
    assert [] == place.committed()
