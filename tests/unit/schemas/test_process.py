"""The process as data: what a file may say, and what is said of one that does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from flows.journey.acts import NAMES
from flows.process.judge import Rules
from flows.process.options import HELP
from flows.process.queries import VIEWS
from schemas.errors import ConfigError
from schemas.process import Process, load_process, read_process

SMALL: dict[str, Any] = {
    "process": "small",
    "owner": "growth",
    "starts": ["request.created"],
    "steps": {
        "request.created": {
            "then": "waiting",
            "actor": "us",
            "next": ["delivery.*"],
            "deadline": "2m",
            "until": ["delivery.sent"],
        },
        "delivery.queued": {"then": "waiting", "actor": "us", "next": ["delivery.sent"]},
        "delivery.sent": {"then": "working", "actor": "provider", "end": True},
    },
    "required": [{"step": "delivery.queued", "before": ["delivery.sent", "timed_out"]}],
    "costs": {"waiting_hour": 1, "handling_hour": 100, "exception_handling_s": 60},
}


def read(**changes: Any) -> Process:
    return read_process(yaml.safe_dump({**SMALL, **changes}))


def with_step(name: str, **changes: Any) -> dict[str, Any]:
    steps = SMALL["steps"]
    return {**steps, name: {**steps.get(name, {}), **changes}}


def test_globs_stand_for_the_steps_that_they_fit() -> None:
    process = read()

    assert {
        ("", "request.created"),
        ("request.created", "delivery.queued"),
        ("request.created", "delivery.sent"),
        ("delivery.queued", "delivery.sent"),
    } == process.allowed
    assert {"request.created": (120, frozenset({"delivery.sent"}))} == process.deadlines
    assert (("delivery.queued", frozenset({"delivery.sent"}), True),) == process.needs


def test_a_required_step_without_ends_is_required_before_each_and_in_time() -> None:
    [(step, ends, by_time_out)] = read(required=[{"step": "request.created"}]).needs

    assert ("request.created", frozenset({"delivery.sent"}), True) == (step, ends, by_time_out)


def test_the_process_in_force_knows_every_act_of_journeys_and_no_other() -> None:
    process = load_process()

    assert set(NAMES) == set(process.steps)
    assert process.process == Rules(process).name


def test_every_view_has_its_help() -> None:
    assert list(HELP) == list(VIEWS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"starts": ["request.creatd"]}, "starts: no step request.creatd"),
        ({"steps": with_step("delivery.queued", next=["delivery.snt"])}, "no step delivery.snt"),
        ({"steps": with_step("delivery.queued", next=[])}, "nothing may follow, and it is no end"),
        ({"steps": with_step("delivery.queued", until=["delivery.sent"])}, "without a deadline"),
        ({"steps": with_step("delivery.sent", deadline="1m")}, "nothing that could keep it"),
        ({"steps": with_step("delivery.sent", on="us")}, "Extra inputs .* at steps.delivery.sent"),
        ({"steps": with_step("delivery.sent", then="idle")}, "'waiting' or 'working'"),
        ({"steps": with_step("delivery.sent", automatable=2)}, "less than or equal to 1"),
        ({"required": [{"step": "delivery.lost"}]}, "required: no step delivery.lost"),
        (
            {"required": [{"step": "delivery.queued", "before": ["request.created"]}]},
            "before what is no end",
        ),
        ({"required": [{"step": "delivery.sent"}] * 2}, "a step stands twice"),
        ({"costs": {}}, "Field required at costs.waiting_hour"),
    ],
)
def test_a_process_that_does_not_fit_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(**changes)


def test_a_file_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="no YAML"):
        read_process("steps: [")


def test_a_step_that_no_journey_can_have_is_refused_by_the_flow() -> None:
    steps = with_step("delivery.teleported", then="working", actor="us", end=True)

    with pytest.raises(ConfigError, match=r"found the step delivery\.teleported"):
        Rules(read(steps=steps))
