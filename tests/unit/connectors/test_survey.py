"""The survey's ear for the client's log, and its patience with partitions that move."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.kafka.survey import KafkaSurvey, Span, _Lines
from schemas.errors import TransientError

SAID = "APIVERSION [x] [thrd:y]: broker:9092/{}:   ApiKey {} ({}) Versions {}..{}"
PLACE = ("ntf.requests.v1", 0)


def say(ear: _Lines, text: str) -> None:
    ear.handle(logging.LogRecord("x", logging.DEBUG, "", 0, text, None, None))


def test_the_versions_that_all_brokers_take_are_kept() -> None:
    ear = _Lines()
    for broker, fetch in (("1", (0, 16)), ("2", (4, 18)), ("1", (0, 16))):
        say(ear, SAID.format(broker, "Fetch", 1, *fetch))
        say(ear, SAID.format(broker, "Unknown-77?", 77, 1, 1))
    say(ear, "APIVERSION [x] [thrd:y]: Feature MsgVer1: Produce (2..32767) supported by broker")

    assert {1: (4, 16), 77: (1, 1)} == ear.apis


def test_the_ear_tires() -> None:
    ear = _Lines()
    for _ in range(20_000):
        say(ear, "nothing")
    say(ear, SAID.format("1", "Fetch", 1, 0, 16))

    assert {} == ear.apis


class Answer:
    def __init__(self, offset: int | None) -> None:
        self.offset = offset
        self.timestamp = offset

    def result(self, **_: float) -> Answer:
        if self.offset is None:
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return self


class Admin:
    """Answers with these offsets, one a question; None: the partition is moving."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)

    def list_offsets(self, asked: Any, **_: float) -> Any:
        answer = Answer(self.answers.pop(0))
        return dict.fromkeys(asked, answer)


def survey(*answers: int | None) -> tuple[KafkaSurvey, list[float]]:
    slept: list[float] = []
    made = KafkaSurvey(bootstrap_servers="127.0.0.1:1", sleep=slept.append)
    replaced: Any = made
    replaced._admin = Admin(*answers)
    return made, slept


def test_a_moving_partition_is_asked_again() -> None:
    made, slept = survey(None, None, 3, 9)

    assert {PLACE: Span(3, 9)} == made.spans([PLACE])
    assert 2 == len(slept)


def test_a_partition_that_never_answers_is_an_error_with_a_bound() -> None:
    made, slept = survey(*[None] * 9)

    with pytest.raises(TransientError, match="NOT_LEADER_FOR_PARTITION in 4 tries"):
        made.spans([PLACE])
    assert 3 == len(slept)


def test_partitions_without_records_have_no_newest_time() -> None:
    assert survey(-1)[0].newest_ms([PLACE]) is None
    assert 7 == survey(7)[0].newest_ms([PLACE])


def test_no_partitions_are_no_question() -> None:
    made, slept = survey()

    assert {} == made.spans([])
    assert made.newest_ms([]) is None
    assert [] == slept
