"""Steps of a lane's transactions: what is tried again, and what never comes back."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.kafka import steps as steps_module
from connectors.kafka.steps import Steps
from schemas.errors import TransientError


def make_steps() -> Steps:
    return Steps(3, timeout_s=900.0, step_s_max=0.2)


def test_a_try_that_does_not_come_back_is_said_to_be_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, began, ends = make_steps(), threading.Event(), threading.Event()

    def call(_: float) -> None:
        began.set()
        ends.wait(30.0)

    thread = threading.Thread(target=steps.call, args=("commit", call))
    thread.start()
    assert began.wait(30.0)
    assert steps.stuck() is None, "not yet"
    monkeypatch.setattr(steps_module, "STUCK_S", 0.0)
    error = steps.stuck()
    ends.set()
    thread.join(30.0)

    assert isinstance(error, TransientError)
    assert "no return from librdkafka" in str(error)
    assert steps.stuck() is None, "no try is under way"


def test_between_tries_nothing_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "STUCK_S", 0.0)
    steps = make_steps()
    told = []

    def fail(_: float) -> None:
        told.append(steps.stuck())
        raise KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS))

    with pytest.raises(TransientError):
        steps.call("read", fail)

    assert None not in told
    assert steps.stuck() is None
