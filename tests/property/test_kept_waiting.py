"""Plans and sends that are kept in a journal are, after any crash, what they are without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.journal import Journals
from flows.steps.keep import Kept
from flows.timing.feedback import EARLY, ENDED, NO_SLOT, OPTIMISED, PLANNED, Feedback, Rules, Send
from flows.timing.plans import Plans
from flows.timing.waiting import Waiting

HOUR_MS = 3_600_000
RULES = Rules(kept_ms=HOUR_MS, correct_ms=24 * HOUR_MS, wait_ms=48 * HOUR_MS, journeys_max=3)

Act = Callable[[Waiting], object]


def make_waiting() -> Waiting:
    return Waiting(Plans(people_max=2), Feedback(RULES))


def a_send(person: int, hour: int, phase: int, *, train: bool = True) -> Send:
    return Send(
        subject=f"usr_{person}",
        campaign="spring",
        goal="",
        window_ms=HOUR_MS,
        channel="push",
        arm=OPTIMISED,
        phase=phase,
        train=train,
        at_ms=hour * HOUR_MS,
        slot=hour % 168,
        sent_ms=hour * HOUR_MS,
        sent_slot=hour % 168 if hour % 5 else NO_SLOT,
        odds=bytes(8),
    )


journeys = st.sampled_from(["jny-0", "jny-1", "jny-2", "jny-3"])
people = st.integers(0, 3)
hours = st.integers(1, 5)
later = st.integers(1, 80)
channels = st.sampled_from(["push", "email"])


def of_feedback(name: str, *parts: Any) -> st.SearchStrategy[Act]:
    def make(*told: Any) -> Act:
        def act(waiting: Waiting) -> object:
            # Each has a send of its own: what is taken is changed later.
            return getattr(waiting.feedback, name)(*(t() if callable(t) else t for t in told))

        return act

    return st.builds(make, *parts)


def sends(phase: int) -> st.SearchStrategy[Callable[[], Send]]:
    return st.builds(
        lambda person, hour, train: lambda: a_send(person, hour, phase, train=train),
        people,
        hours,
        st.booleans(),
    )


def response(journey: str, hour: int, person: int) -> Act:
    at_ms = hour * HOUR_MS + 5
    return lambda waiting: waiting.feedback.note_response(
        journey, at_ms, early=a_send(person, 0, EARLY)
    )


def denial(journey: str, person: int, *, known: bool) -> Act:
    return lambda waiting: waiting.feedback.deny(
        journey, early=None if known else a_send(person, 0, EARLY, train=False)
    )


acts: st.SearchStrategy[Act] = st.one_of(
    of_feedback("plan", journeys, sends(PLANNED)),
    of_feedback("note_sent", journeys, sends(PLANNED)),
    of_feedback("note_back", journeys),
    of_feedback("note_end", journeys, st.none() | sends(ENDED)),
    of_feedback("expire", later.map(lambda hour: hour * HOUR_MS)),
    of_feedback("forget", people.map("usr_{}".format)),
    st.builds(response, journeys, hours, people),
    st.builds(lambda j, p, k: denial(j, p, known=k), journeys, people, st.booleans()),
    st.builds(
        lambda person, hour, channel: (
            lambda waiting: waiting.plans.add(
                f"usr_{person}", hour * HOUR_MS, channel, now_ms=hour * HOUR_MS
            )
        ),
        people,
        hours,
        channels,
    ),
    st.builds(
        lambda person, hour, channel: (
            lambda waiting: waiting.plans.drop(f"usr_{person}", hour * HOUR_MS, channel)
        ),
        people,
        hours,
        channels,
    ),
    st.builds(lambda person: lambda waiting: waiting.plans.forget(f"usr_{person}"), people),
)
epochs = st.lists(
    st.tuples(st.lists(acts, min_size=6, max_size=12), st.booleans()), min_size=3, max_size=9
)


def kept_in(waiting: Waiting, folder: Path) -> Kept:
    part = Kept(waiting)
    part.keep_in(Journals(folder).open)
    return part


def packed(waiting: Waiting) -> bytes:
    """As the engine keeps it: a copy."""
    return msgspec.msgpack.encode(Kept(waiting).dump())


@given(epochs)
def test_after_lost_epochs_what_is_kept_is_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[tuple[list[Act], bool]]
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    plain, held = make_waiting(), make_waiting()
    part = kept_in(held, folder)
    part.keep_as("timing-000")
    saved, inline = part.dump(), packed(plain)
    for done, is_durable in epochs:
        for act in done:
            assert act(plain) == act(held)
        assert plain.feedback.take() == held.feedback.take()
        assert plain.dump() == held.dump()
        whole, mark = packed(plain), part.dump()
        again = make_waiting()
        kept_in(again, folder).load(mark)
        assert plain.dump() == again.dump()
        if is_durable:
            saved, inline = mark, whole
            continue
        plain, held = make_waiting(), make_waiting()
        Kept(plain).load(msgspec.msgpack.decode(inline))
        part = kept_in(held, folder)
        part.load(saved)
        assert plain.dump() == held.dump()


def plan_of(waiting: Waiting, person: int) -> None:
    waiting.plans.add(f"usr_{person}", HOUR_MS, "push", now_ms=HOUR_MS)


def send_of(waiting: Waiting, person: int) -> None:
    waiting.feedback.plan(f"jny-{person}", a_send(person, 1, PLANNED))


def expired_answer_of(waiting: Waiting, person: int) -> None:
    response(f"jny-{person}", 1, person)(waiting)
    waiting.feedback.expire(90 * HOUR_MS)


def called_off_plan_of(waiting: Waiting, person: int) -> None:
    plan_of(waiting, person)
    waiting.plans.drop(f"usr_{person}", HOUR_MS, "push")


@pytest.mark.parametrize("leave", [plan_of, send_of, expired_answer_of, called_off_plan_of])
def test_who_is_forgotten_is_gone_from_disk(
    tmp_path: Path, leave: Callable[[Waiting, int], None]
) -> None:
    """Also where nothing is left of the person but in earlier changes."""
    waiting = make_waiting()
    part = kept_in(waiting, tmp_path)
    part.keep_as("timing-000")
    part.dump()
    for person in (1, 2):
        leave(waiting, person)
        part.dump()
    plan_of(waiting, 2)
    part.dump()
    waiting.plans.forget("usr_1")
    waiting.feedback.forget("usr_1")
    part.dump()
    part.dump()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"usr_2" in left
    assert b"usr_1" not in left


def sent_and_closed(waiting: Waiting) -> None:
    waiting.feedback.note_sent("jny-0", a_send(1, 1, PLANNED))
    waiting.feedback.expire(4 * HOUR_MS)


def just_sent(waiting: Waiting) -> None:
    waiting.feedback.note_sent("jny-0", a_send(1, 1, PLANNED))


def just_planned(waiting: Waiting) -> None:
    waiting.feedback.plan("jny-0", a_send(1, 1, PLANNED))


def planned_twice(waiting: Waiting) -> None:
    for hour in (1, 2):
        waiting.plans.add("usr_1", hour * HOUR_MS, "push", now_ms=HOUR_MS)


@pytest.mark.parametrize(
    ("before", "act"),
    [
        pytest.param(sent_and_closed, response("jny-0", 1, 1), id="an answer after the negative"),
        pytest.param(just_sent, response("jny-0", 1, 1), id="an answer in time"),
        pytest.param(just_sent, lambda one: one.feedback.note_back("jny-0"), id="a bounce"),
        pytest.param(just_planned, response("jny-0", 1, 1), id="an answer before its sending"),
        pytest.param(just_planned, denial("jny-0", 1, known=True), id="no training"),
        pytest.param(
            planned_twice, lambda one: one.plans.drop("usr_1", HOUR_MS, "push"), id="one plan less"
        ),
    ],
)
def test_a_change_in_place_is_told(tmp_path: Path, before: Act, act: Act) -> None:
    """What a random course seldom has alone in an epoch."""
    waiting = make_waiting()
    part = kept_in(waiting, tmp_path)
    part.keep_as("timing-000")
    before(waiting)
    part.dump()
    was = packed(waiting)
    act(waiting)
    mark = part.dump()
    again = make_waiting()
    kept_in(again, tmp_path).load(mark)

    assert waiting.dump() == again.dump()
    assert was != packed(again)
