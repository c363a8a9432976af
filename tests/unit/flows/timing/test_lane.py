"""A lane from requests to decisions, and from outcomes to what it learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import REGISTRY

from flows.places import POLICY
from flows.steps.accept import notices_of
from flows.timing.calendar import slot_at
from flows.timing.feedback import CLOSED, HOLDOUT, OPTIMISED, Lesson, Send
from flows.timing.rules import Tally
from schemas.errors import ConfigError
from schemas.events import EVENT_TYPES, explain
from schemas.policy import load_policy
from schemas.ticket import Ticket, parse_time
from schemas.ticket_reader import TicketReader
from tests.messages import HOUR_MS, NOW_MS, PERSON, Message, block, profile, with_body
from tests.timing_world import MINUTE_MS, decisions, lane, notice, person, reacted, request, sent
from tests.unit.flows.timing.harness import Post

BERLIN = "Europe/Berlin"
MODEL = "latent_class"


def home(subject: str = PERSON, number: int = 1, **more: Any) -> Message:
    """A profile in Berlin."""
    consent = more.pop("consent", ())
    return with_body(profile(number, subject=subject, zone=BERLIN, consent=consent), **more)


def send_at(decision: dict[str, Any]) -> int:
    at_ms = parse_time(decision["send_at"].encode())
    assert at_ms is not None
    return at_ms


def learned(post: Post) -> int:
    return post.lane.learners[MODEL].experience


def test_a_request_becomes_a_decision_that_fits_its_contract_and_keeps_the_ticket() -> None:
    post = Post()
    post.take(home())
    asked = request(1, expires_at="2027-01-18T00:00:00Z")
    [record] = post.take(asked).prompt

    kind = EVENT_TYPES["ntf.decision.made.v1"]
    ticket = TicketReader(load_policy(POLICY)).read(record.headers)
    before = dict(asked.headers)
    assert [] == explain(kind, record.value or b"")
    assert isinstance(ticket, Ticket)
    assert before["ce_dataclassification"] == ticket.label.class_text.encode()
    assert before["ce_datapurpose"] == ticket.label.purpose.encode()
    assert before["ce_id"] == ticket.causation.encode()
    assert before["ce_correlationid"] == ticket.correlation.encode()
    assert PERSON == ticket.subject
    assert PERSON.encode() == record.key
    body = orjson.loads(record.value or b"")
    assert ticket.id == body["decision_id"]
    assert slot_at(BERLIN, send_at(body)) == body["slot"]
    assert 8 <= body["slot"] % 24 < 22


def test_a_decision_is_the_same_whenever_it_is_made_again_and_another_for_another_request() -> None:
    def decide(number: int) -> list[Any]:
        post = Post()
        post.take(home())
        return list(post.take(request(number)).prompt)

    assert decide(1) == decide(1)
    assert decide(1)[0].headers != decide(2)[0].headers


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"priority": "critical"}, "priority"),
        ({"purpose": "security"}, "purpose"),
        ({"subject": person(99)}, "zone_unknown"),
        ({"expires_at": "2027-01-15T08:00:01Z", "send_after": "2027-01-15T08:00:00Z"}, None),
    ],
)
def test_what_may_not_wait_is_sent_at_once_and_says_why(
    more: dict[str, Any], reason: str | None
) -> None:
    post = Post()
    post.take(home())
    [found] = post.ask(request(1, **more))

    if reason is None:
        assert "optimised" in found["arm"] or "holdout" in found["arm"]
    else:
        assert ("immediate", reason, 1.0) == (found["arm"], found["reason"], found["propensity"])
        assert NOW_MS == send_at(found)


def test_a_deadline_in_the_night_leads_to_sending_at_once_with_a_reason() -> None:
    post = Post(quiet_from=8, quiet_until=12)  # NOW_MS is 09:00 in Berlin
    post.take(home())
    [found] = post.ask(request(1, expires_at="2027-01-15T08:30:00Z"))

    assert ("immediate", "no_time_allowed") == (found["arm"], found["reason"])


def test_a_request_whose_deadline_has_passed_gets_no_decision() -> None:
    post = Post()
    post.take(home())

    assert [] == post.ask(request(1, expires_at="2027-01-15T07:59:59Z"))


def test_nobody_gets_a_decision_without_the_consent_that_its_purpose_needs() -> None:
    """The gate refuses such requests; a lane that reads routed topics may know of it later."""
    post = Post()
    post.take(home(consent=["marketing"]), home(person(2), 2, consent=["marketing"]))
    post.take(request(9, purpose="marketing"))
    post.lane.people.hold(_Changed)

    assert [] == post.ask(request(1, purpose="marketing"))
    assert 1 == len(post.ask(request(2, purpose="marketing", subject=person(2))))


class _Changed:
    subject, zone, preferred_hours = PERSON, BERLIN, ()
    consent: Mapping[str, bool] = MappingProxyType({"marketing": False})


def test_a_journey_is_decided_once_whatever_asks_for_it() -> None:
    post = Post()
    post.take(home())
    first = post.ask(request(1))
    again = post.ask(request(1, kind="ntf.journey.created.v1"))
    other = post.ask(request(2, kind="ntf.journey.created.v1"))

    assert [1, 0, 1] == [len(first), len(again), len(other)]


def test_two_requests_for_one_person_in_a_block_keep_their_distance() -> None:
    post = Post(cap_a_day=1, cap_a_channel_day=1)
    post.take(home())
    one, two = post.ask(request(1), request(2))

    assert abs(send_at(one) - send_at(two)) >= 24 * HOUR_MS


def test_a_plan_that_is_called_off_makes_room_again() -> None:
    post = Post(cap_a_day=1, cap_a_channel_day=1, horizon_h=20)
    post.take(home())
    post.ask(request(1))
    full = post.ask(request(2))
    canceled = request(1, kind="ntf.orchestration.canceled.v1", reason="requested")
    post.take(canceled, _as(request(2), "ntf.orchestration.canceled.v1", reason="requested"))
    again = post.ask(request(3))

    assert ["no_time_allowed"] == [found["reason"] for found in full]
    assert "immediate" not in {found["arm"] for found in again}


@pytest.mark.parametrize("asked", [1, 0], ids=["after a decision", "before any request"])
def test_a_request_that_comes_after_its_journey_was_called_off_gets_no_time(asked: int) -> None:
    post = Post()
    post.take(home())
    before = post.ask(request(1)) if asked else []
    post.take(_as(request(1), "ntf.orchestration.suppressed.v1", reason="filtered"))

    assert [] == post.ask(request(1, kind="ntf.journey.created.v1"))
    assert asked == len(before)
    assert 1 == len(post.ask(request(2)))


def test_a_request_behind_its_suppression_in_one_block_gets_no_time() -> None:
    post = Post()
    post.take(home())
    called_off = _as(request(1), "ntf.orchestration.suppressed.v1", reason="filtered")

    assert [] == post.ask(called_off, request(1))


def _as(message: Message, kind: str, **fields: Any) -> Message:
    number = int(orjson.loads(message.value or b"")["journey_id"][4:])
    return request(number, kind=kind, **fields)


def test_a_block_of_requests_costs_one_question_to_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    post = Post(holdout_share=0)
    post.take(*(home(person(n), n) for n in range(1, 40)))
    post.ask(request(900, subject=person(1)))
    learner = post.lane.learners[MODEL]
    asked: list[int] = []
    plain = learner.odds

    def odds(users: Any, allowed: Any) -> Any:
        asked.append(len(users))
        return plain(users, allowed)

    monkeypatch.setattr(learner, "odds", odds)
    post.ask(*(request(n, subject=person(n)) for n in range(2, 40)))

    assert [38] == asked


def test_an_outcome_is_learned_in_the_slot_of_its_sending_and_written_with_its_decision() -> None:
    post = Post()
    post.take(home())
    [found] = post.ask(request(1))
    at_ms = send_at(found)
    post.take(sent(1, at_ms=at_ms + MINUTE_MS))
    post.take(reacted(1, at_ms=at_ms + 5 * MINUTE_MS))

    assert 1 == learned(post)
    [row] = post.rows["decision_outcomes"]
    assert (found["decision_id"], 1, 0) == (
        row["decision_id"],
        row["responded"],
        row["corrected"],
    )


def test_machines_never_respond_and_the_timer_of_another_event_makes_the_negative() -> None:
    post = Post(window_s=3_600)
    post.take(home())
    at_ms = send_at(post.ask(request(1))[0])
    post.take(sent(1, at_ms=at_ms))
    post.take(reacted(1, at_ms=at_ms + MINUTE_MS, machine=True))
    assert 0 == learned(post)
    post.take(sent(2, at_ms=at_ms + 2 * HOUR_MS, subject=person(2)))

    assert [0] == [row["responded"] for row in post.rows["decision_outcomes"]]


def test_a_response_that_training_is_denied_counts_nowhere() -> None:
    post = Post(window_s=3_600, goals={"paid": ["ntf.outcome.payment_received.v1"]}, kept_s=86_400)
    post.take(home())
    goal = {"metric": "paid", "window_s": 3_600}
    at_ms = send_at(post.ask(request(1, goal=goal))[0])
    post.take(sent(1, at_ms=at_ms))
    paid = reacted(1, at_ms=at_ms + MINUTE_MS, classes="PCI", purpose="payment", word="seen")
    body = {**orjson.loads(paid.value or b""), "amount_minor": 5, "currency": "EUR"}
    headers = [
        (n, b"ntf.outcome.payment_received.v1" if n == "ce_type" else v) for n, v in paid.headers
    ]
    post.take(paid._replace(headers=headers, value=orjson.dumps(body)))
    post.take(sent(2, at_ms=at_ms + 3 * HOUR_MS, subject=person(2)))

    assert 0 == learned(post)
    assert "decision_outcomes" not in post.rows


def test_a_profile_that_is_read_again_is_not_learned_again() -> None:
    post = Post()
    post.take(home(preferred_hours=[19]))
    saved = post.lane.dump()
    again = Post()
    again.lane.load(saved)
    again.take(home(preferred_hours=[19]))

    assert saved == again.lane.dump()
    assert BERLIN == again.lane.people.zone_of(PERSON, "")


def test_a_tombstone_and_an_erasure_forget_a_person_everywhere() -> None:
    for how in ("tombstone", "erasure"):
        post = Post()
        post.take(home(preferred_hours=[19]), home(person(2), 2))
        at_ms = send_at(post.ask(request(1))[0])
        post.ask(request(2, at_ms=NOW_MS + 1))
        post.take(sent(1, at_ms=at_ms))
        post.take(reacted(1, at_ms=at_ms + 1))
        assert PERSON.encode() in post.lane.dump()
        if how == "tombstone":
            post.take(home(number=3)._replace(value=None))
        else:
            post.take(notice("airside.erasure.v1", PERSON, b"{}"))

        assert PERSON.encode() not in post.lane.dump()


def test_the_holdout_is_for_ever_drawn_evenly_and_told_by_its_key_alone() -> None:
    arms = {}
    for key in ("a key of sixteen bytes", "another of sixteen bytes"):
        post = Post(holdout_share=0.5, holdout_key=key, quiet_from=0, quiet_until=0)
        people = [person(n) for n in range(1, 60)]
        post.take(*(home(subject, n) for n, subject in enumerate(people, 1)))
        found = post.ask(*(request(n, subject=who) for n, who in enumerate(people, 1)))
        arms[key] = [one["arm"] for one in found]
        held = [one for one in found if one["arm"] == "holdout"]
        assert held
        assert all(one["propensity"] == pytest.approx(1 / one["allowed"]) for one in held)
        twice = post.ask(*(request(n + 100, subject=who) for n, who in enumerate(people, 1)))
        assert arms[key] == [one["arm"] for one in twice]

    assert len({tuple(one) for one in arms.values()}) == 2


def test_only_what_was_sent_as_drawn_is_compared() -> None:
    post = Post(holdout_share=0.5, window_s=3_600)
    people = [person(n) for n in range(1, 21)]
    post.take(*(home(subject, n) for n, subject in enumerate(people, 1)))
    found = post.ask(*(request(n, subject=who) for n, who in enumerate(people, 1)))
    late_ms = [0, 2 * HOUR_MS] * 10
    sends = [
        (send_at(one) + late, n, who)
        for n, (who, one, late) in enumerate(zip(people, found, late_ms, strict=True), 1)
    ]
    for at_ms, n, who in sorted(sends):
        post.take(sent(n, at_ms=at_ms, subject=who))
    post.take(sent(99, at_ms=NOW_MS + 9 * 24 * HOUR_MS))

    sums = post.lane.trial.evidence
    assert 20 == learned(post)
    assert 10 == sums.arms[OPTIMISED, 1] + sums.arms[HOLDOUT, 1]
    assert 20 == sums.assigned.sum()


def test_in_the_null_state_the_best_time_is_taken_but_for_the_floor_and_the_reason_says_so() -> (
    None
):
    post = Post(holdout_share=0, explore_min=0.1)
    post.take(home())
    post.ask(request(9))
    post.lane.trial.explore = type(post.lane.trial.explore)(0.1, "null_accepted")
    post.take(home(person(4), 4))
    [found] = post.ask(request(2, subject=person(4)))

    assert "null_accepted" == found["reason"]
    low = 0.1 / found["allowed"]
    assert found["propensity"] in (pytest.approx(low), pytest.approx(0.9 + low))


def test_what_a_lane_publishes_starts_another_warm_and_is_taken_once() -> None:
    post = Post(holdout_share=0)
    post.lane._begin(0)
    taught = post.lane.learners[MODEL]
    people = [person(n) for n in range(1, 400)]
    slots = np.array([19 + n % 24 // 12 * 24 for n in range(len(people))])
    for _ in range(5):
        taught.learn(people, slots, slots < 24)
    told = post.lane._shard()

    other = Post()
    other.lane._begin(1)
    before = other.lane.learners[MODEL].predict([person(1_000)])
    message = notice("airside.model.v1", "000", told)
    other.lane.follow(_notices(message, lane=1))

    assert b"usr_" not in told
    assert not np.allclose(before, other.lane.learners[MODEL].predict([person(1_000)]))
    assert 5 * len(people) == other.lane.learners[MODEL].experience
    saved = other.lane.dump()
    other.lane.follow(_notices(message, lane=1))
    assert saved == other.lane.dump()


def _notices(message: Message, *, lane: int) -> Any:  # of another lane
    raw = block([message])
    raw.lane = lane
    return notices_of(raw)


def test_a_lane_does_not_take_its_own_words_for_anothers_but_after_losing_its_state() -> None:
    post = Post()
    post.lane._begin(0)
    shard = post.lane._shard()
    post.lane._published = 1
    post.take(notice("airside.model.v1", "000", shard))
    assert [] == post.lane.shards.lanes

    fresh = Post()
    fresh.take(notice("airside.model.v1", "000", shard))
    assert [0] == fresh.lane.shards.lanes


def test_words_of_another_release_are_left_alone() -> None:
    post = Post()
    post.take(notice("airside.model.v1", "007", b"\x00"))

    assert [] == post.lane.shards.lanes


def test_nothing_of_a_decision_is_on_topics_for_all() -> None:
    post = Post()
    post.take(home())
    followed = post.take(request(1))

    assert {"ntf.decisions.v1"} == {record.topic for record in followed.prompt}
    assert [] == decisions(followed.records)


def test_a_campaign_may_have_another_model_and_all_models_learn_from_every_outcome() -> None:
    post = Post(holdout_share=0, policies={"spring": "linucb", "autumn": "logistic"})
    post.take(home(), home(person(2), 2), home(person(3), 3))
    found = post.ask(
        request(1),
        request(2, subject=person(2), campaign="autumn"),
        request(3, subject=person(3), campaign="winter"),
    )
    at_ms = send_at(found[0])
    post.take(sent(1, at_ms=at_ms))
    post.take(reacted(1, at_ms=at_ms + 1))
    again = Post(holdout_share=0, policies={"spring": "linucb", "autumn": "logistic"})
    again.lane.load(post.lane.dump())

    assert ["linucb", "logistic", MODEL] == [one["model"] for one in found]
    assert {1} == {learner.experience for learner in again.lane.learners.values()}


def test_a_name_of_no_model_and_a_response_of_no_event_type_stop_before_the_start() -> None:
    with pytest.raises(ConfigError, match='could not use model "best": found no such model'):
        lane(policies={"spring": "best"})
    with pytest.raises(ConfigError, match="AIRSIDE_TIMING__RESPONSES"):
        lane(responses=["ntf.engagement.loved.v1"])


def test_the_past_counts_for_half_when_responses_stop_being_what_was_expected() -> None:
    post = Post(holdout_share=0)
    post.lane._begin(0)
    learner = post.lane.learners[MODEL]
    people = [person(n) for n in range(50)]
    for _ in range(20):
        learner.learn(people, np.full(50, 12), np.ones(50, np.bool_))
    kept: list[float] = []
    post.lane.learners = {MODEL: _Told(learner, kept)}
    for number in range(60):
        expected = 0.9 if number < 30 else 0.1
        post.lane._judge_model(_outcomes(number, expected), _no_tally())

    assert kept
    assert {0.5} == set(kept)


def test_people_who_stop_responding_make_the_model_forget_and_the_alarm_is_counted() -> None:
    """From messages to the model: requests, sendings, and then no answers any more."""
    post = Post(holdout_share=0, window_s=3_600, cap_a_day=1)
    people = [person(n) for n in range(1, 101)]
    post.take(*(home(subject, n) for n, subject in enumerate(people, 1)))
    kept: list[float] = []
    post.lane.learners = {MODEL: _Told(post.lane.learners[MODEL], kept)}
    name = {"lane": str(post.lane.number)}
    before = REGISTRY.get_sample_value("airside_timing_drifts_total", name) or 0.0
    alarms = []
    for turn in range(13):
        ids = range(turn * 1_000 + 1, turn * 1_000 + 101)
        at_ms = NOW_MS + turn * 10 * 24 * HOUR_MS
        asked = [request(n, at_ms=at_ms, subject=who) for n, who in zip(ids, people, strict=True)]
        times = sorted(
            (send_at(one), int(one["journey_id"][4:]), one["subject"]) for one in post.ask(*asked)
        )
        for when, n, who in times:  # answered before the next goes out, so none is late
            post.take(sent(n, at_ms=when, subject=who))
            if turn < 8:
                post.take(reacted(n, at_ms=when + 1, subject=who))
        alarms.append(post.lane.calibration.alarms)

    assert {0.5} == set(kept)
    assert alarms[-1] > alarms[7]
    counted = REGISTRY.get_sample_value("airside_timing_drifts_total", name) or 0.0
    assert len(kept) == counted - before
    for kind in ("log_loss", "calibration", "auc"):
        for moment in ("decision", "learning"):
            labels = {**name, "expected_at": moment}
            value = REGISTRY.get_sample_value(f"airside_timing_{kind}_ratio", labels)
            assert value is not None
            assert value > 0


class _Told:
    """A model that only tells how much it is to keep."""

    def __init__(self, learner: Any, kept: list[float]) -> None:
        self._learner, self._kept = learner, kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    def fade(self, keep: float) -> None:
        self._kept.append(keep)


def _outcomes(number: int, expected: float) -> list[Lesson]:
    send = Send("usr_1", "spring", "", HOUR_MS, "", OPTIMISED, CLOSED, True, 0, 12)
    send.expected = expected
    return [Lesson(f"jrn-{number}-{n}", send, responded=n % 10 > 0) for n in range(50)]


def _no_tally() -> Tally:
    return Tally(Counter(), Counter())
