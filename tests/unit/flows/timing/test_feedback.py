"""What becomes of a message: positive at once, negative by the timer, corrected when late."""

from __future__ import annotations

from typing import Any

import pytest

from flows.timing.feedback import (
    CLOSED,
    EARLY,
    ENDED,
    NO_SLOT,
    OPEN,
    OPTIMISED,
    OUTSIDE,
    PLANNED,
    Feedback,
    Rules,
    Send,
)

HOUR_MS = 3_600_000
RULES = Rules(kept_ms=60_000, correct_ms=24 * HOUR_MS, wait_ms=24 * HOUR_MS, journeys_max=3)


def planned(at_ms: int = HOUR_MS, **more: Any) -> Send:
    made: dict[str, Any] = {
        "subject": "usr_1",
        "campaign": "spring",
        "goal": "",
        "window_ms": HOUR_MS,
        "channel": "",
        "arm": OPTIMISED,
        "phase": PLANNED,
        "train": True,
        "at_ms": at_ms,
        "slot": 7,
    }
    return Send(**{**made, **more})


def sending(at_ms: int, slot: int = 7, *, train: bool = True) -> Send:
    return planned(at_ms, arm=OUTSIDE, sent_ms=at_ms, sent_slot=slot, slot=NO_SLOT, train=train)


def early() -> Send:
    return planned(0, arm=OUTSIDE, phase=EARLY)


def told(feedback: Feedback) -> list[tuple[bool, bool]]:
    return [(lesson.responded, lesson.corrects) for lesson in feedback.take()]


def test_a_response_within_the_window_is_positive_at_once() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_sent("j", sending(HOUR_MS))
    feedback.note_response("j", 2 * HOUR_MS, early=early())

    assert [(True, False)] == told(feedback)
    feedback.expire(100 * HOUR_MS)
    assert [] == told(feedback)


def test_the_timer_makes_the_negative_and_not_before_the_window_is_over() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_sent("j", sending(HOUR_MS))

    feedback.expire(2 * HOUR_MS)
    assert [] == told(feedback)
    feedback.expire(2 * HOUR_MS + 60_000)
    assert [(False, False)] == told(feedback)


def test_a_response_that_was_made_in_time_and_arrives_late_corrects_the_negative_once() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_sent("j", sending(HOUR_MS))
    feedback.expire(4 * HOUR_MS)
    feedback.take()

    feedback.note_response("j", HOUR_MS + 5, early=early())
    feedback.note_response("j", HOUR_MS + 6, early=early())

    assert [(True, True)] == told(feedback)


def test_a_response_after_the_window_changes_nothing() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_sent("j", sending(HOUR_MS))
    feedback.note_response("j", 2 * HOUR_MS + 1, early=early())
    feedback.expire(4 * HOUR_MS)
    feedback.note_response("j", 3 * HOUR_MS, early=early())

    assert [(False, False)] == told(feedback)


def test_a_response_that_is_heard_of_before_its_sending_still_counts() -> None:
    feedback = Feedback(RULES)
    feedback.note_response("j", HOUR_MS + 9, early=early())
    feedback.note_sent("j", sending(HOUR_MS))

    assert [(True, False)] == told(feedback)


def test_a_second_report_of_a_sending_changes_nothing() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_sent("j", sending(HOUR_MS))
    feedback.note_response("j", HOUR_MS + 1, early=early())
    feedback.note_sent("j", sending(HOUR_MS + 2))
    feedback.expire(10 * HOUR_MS)

    assert [(True, False)] == told(feedback)


def test_the_slot_learned_is_that_of_the_sending_and_what_was_not_kept_is_not_compared() -> None:
    feedback = Feedback(RULES)
    feedback.plan("a", planned())
    feedback.plan("b", planned())
    feedback.note_sent("a", sending(HOUR_MS + 60_000, slot=7))
    feedback.note_sent("b", sending(HOUR_MS + 60_001, slot=8))
    feedback.expire(10 * HOUR_MS)

    found = {one.journey: (one.send.sent_slot, one.send.counts) for one in feedback.take()}
    assert {"a": (7, True), "b": (8, False)} == found


def test_a_sending_whose_local_hour_nobody_knows_teaches_nothing_even_late() -> None:
    feedback = Feedback(RULES)
    feedback.note_sent("j", sending(HOUR_MS, slot=NO_SLOT))
    feedback.expire(3 * HOUR_MS)
    feedback.note_response("j", HOUR_MS + 1, early=early())

    assert [] == told(feedback)


def test_what_bounced_is_no_negative_and_may_be_sent_again() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_sent("j", sending(HOUR_MS))
    feedback.note_back("j")
    feedback.expire(3 * HOUR_MS)
    assert [] == told(feedback)

    feedback.note_sent("j", sending(3 * HOUR_MS))
    feedback.expire(5 * HOUR_MS)
    assert [(False, False)] == told(feedback)


@pytest.mark.parametrize("which", ["request", "sending"])
def test_what_policy_keeps_from_training_is_never_learned(which: str) -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned(train=which != "request"))
    feedback.note_sent("j", sending(HOUR_MS, train=which != "sending"))
    feedback.expire(10 * HOUR_MS)

    assert [] == told(feedback)


def test_a_plan_that_is_called_off_is_given_back_and_forgotten() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())

    ended = feedback.note_end("j", None)
    assert ended is not None
    assert HOUR_MS == ended.at_ms
    assert feedback.get("j") is None
    assert feedback.note_end("j", None) is None


@pytest.mark.parametrize("known", ["nothing", "a plan", "an answer"])
def test_what_was_called_off_is_remembered_for_a_while_and_teaches_nothing(known: str) -> None:
    feedback = Feedback(RULES)
    if known == "a plan":
        feedback.plan("j", planned())
    if known == "an answer":
        feedback.note_response("j", HOUR_MS, early=early())

    given_back = feedback.note_end("j", planned(0, arm=OUTSIDE, phase=ENDED))
    assert (known == "a plan") == (given_back is not None)
    assert feedback.note_end("j", planned(0, phase=ENDED)) is None
    feedback.note_response("j", 2 * HOUR_MS, early=early())
    assert ENDED == phase_of(feedback)
    feedback.expire(27 * HOUR_MS)
    assert feedback.get("j") is None
    assert [] == told(feedback)


@pytest.mark.parametrize(
    "order", ["end sent response", "end response sent", "response end sent"], ids=str
)
def test_what_was_sent_although_it_was_called_off_is_a_sending(order: str) -> None:
    feedback = Feedback(RULES)
    for word in order.split():
        if word == "end":
            feedback.note_end("j", planned(0, arm=OUTSIDE, phase=ENDED))
        elif word == "sent":
            feedback.note_sent("j", sending(HOUR_MS))
        else:
            feedback.note_response("j", 2 * HOUR_MS, early=early())
    feedback.expire(40 * HOUR_MS)

    assert [(True, False)] == told(feedback)


@pytest.mark.parametrize(
    "order",
    [
        "denied sent",
        "denied plan sent",
        "plan denied sent",
        "plan sent denied",
        "denied end sent",
        "end denied sent answer",
        "sent denied answer",
    ],
    ids=str,
)
def test_an_answer_that_training_is_denied_teaches_nothing_in_any_order(order: str) -> None:
    feedback = Feedback(RULES)
    for word in order.split():
        if word == "denied":
            feedback.deny("j", early=planned(0, arm=OUTSIDE, phase=EARLY, train=False))
        elif word == "plan":
            feedback.plan("j", planned())
        elif word == "sent":
            feedback.note_sent("j", sending(HOUR_MS))
        elif word == "end":
            feedback.note_end("j", planned(0, arm=OUTSIDE, phase=ENDED))
        else:
            feedback.note_response("j", 2 * HOUR_MS, early=early())
    assert feedback.get("j") is not None, "a further request would get a time"
    feedback.expire(80 * HOUR_MS)

    assert [] == told(feedback)
    assert feedback.get("j") is None


def test_a_plan_whose_answer_came_after_its_time_is_forgotten_too() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.note_response("j", 5 * HOUR_MS, early=early())
    feedback.expire(28 * HOUR_MS)
    assert feedback.get("j") is not None
    feedback.expire(30 * HOUR_MS)

    assert feedback.get("j") is None


def phase_of(feedback: Feedback) -> int | None:
    known = feedback.get("j")
    return known.phase if known is not None else None


def test_a_plan_that_nobody_sends_is_forgotten_after_its_wait() -> None:
    feedback = Feedback(RULES)
    feedback.plan("j", planned())
    feedback.expire(25 * HOUR_MS)
    assert feedback.get("j") is not None
    feedback.expire(25 * HOUR_MS + 60_000)

    assert feedback.get("j") is None
    assert [] == told(feedback)


def test_journeys_are_bounded_and_the_oldest_counts_nowhere() -> None:
    feedback = Feedback(RULES)
    for name in "abcd":
        feedback.plan(name, planned())

    assert 3 == len(feedback)
    assert feedback.get("a") is None
    assert 1 == feedback.given_up


def test_state_that_is_loaded_goes_on_as_it_would_have() -> None:
    def fill(feedback: Feedback) -> Feedback:
        for number, name in enumerate("abc"):
            feedback.plan(name, planned(HOUR_MS + number))
            feedback.note_sent(name, sending(HOUR_MS + 3 - number))
        return feedback

    straight, broken = fill(Feedback(RULES)), Feedback(RULES)
    broken.load(fill(Feedback(RULES)).dump())
    for feedback in (straight, broken):
        feedback.expire(10 * HOUR_MS)

    named = [one.journey for one in straight.take()]
    assert ["c", "b", "a"] == named
    assert named == [one.journey for one in broken.take()]
    assert [CLOSED] * 3 == [send.phase for _, send in broken.dump()]
    assert OPEN not in {send.phase for _, send in straight.dump()}


def test_a_person_who_is_forgotten_leaves_no_message_behind() -> None:
    feedback = Feedback(RULES)
    feedback.plan("a", planned())
    feedback.plan("b", planned(subject="usr_2"))
    feedback.forget("usr_1")

    assert ["b"] == [journey for journey, _ in feedback.dump()]
