"""The desk where requests of a lane get their times, and where those are remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from flows.timing.allow import Allowed, allowed_slots
from flows.timing.ask import ASKING, ENDING, Ask, at_once, read_ask
from flows.timing.decide import Draw, Drawer, send_now
from flows.timing.feedback import EARLY, NO_SLOT, PLANNED, Feedback, Send
from flows.timing.learners import Learner
from flows.timing.people import PeopleTable
from flows.timing.plans import ANY_CHANNEL, Plans
from flows.timing.record import decision_id
from flows.timing.rows import expiry_of
from flows.timing.rules import LaneRules, Tally
from flows.timing.trial import Trial
from schemas.blocks import AcceptedBlock
from schemas.policy import Training


class Desk:
    """Decides requests.

    State: none of its own; it notes what it decided in the lane's plans, feedback and trial.
    """

    def __init__(
        self,
        rules: LaneRules,
        *,
        people: PeopleTable,
        plans: Plans,
        feedback: Feedback,
        trial: Trial,
    ) -> None:
        self._rules = rules
        self._people = people
        self._plans = plans
        self._feedback = feedback
        self._trial = trial
        self._drawer = Drawer(
            seed=rules.seed,
            holdout=rules.holdout,
            policies=rules.policies,
            usual=rules.model,
            floor=rules.floor,
        )

    def decide(
        self, block: AcceptedBlock, learners: Mapping[str, Learner], tally: Tally
    ) -> list[Draw]:
        """Decide all requests of a block, with one question to each model.

        Where someone is asked for twice, the second time knows of the first, and costs another.
        """
        rounds: list[list[Ask]] = []
        turns: Counter[str] = Counter()
        journeys: set[str] = set()
        for place, label in enumerate(block.labels):
            if label.type in ENDING:
                journeys.add(block.journeys[place])  # no request behind it is decided
            if label.type not in ASKING or block.journeys[place] in journeys:
                continue
            ask = self._read_ask(block, place, tally)
            if ask is None:
                continue
            journeys.add(ask.journey)
            turn = turns[ask.subject]
            turns[ask.subject] += 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(ask)
        draws: list[Draw] = []
        for asks in rounds:
            found = self._draw(asks, learners)
            for draw in found:
                self._plan(draw, block)
                tally.decisions[draw.arm_name, draw.reason] += 1
            draws += found
        compared = [draw for draw in draws if draw.slot != NO_SLOT]
        if compared:
            subjects = [draw.ask.subject for draw in compared]
            arms = [draw.arm for draw in compared]
            self._trial.assign(subjects, arms, at_ms=compared[0].ask.now_ms)
        return draws

    def _read_ask(self, block: AcceptedBlock, place: int, tally: Tally) -> Ask | None:
        """What may be decided; what may not is counted by its reason."""
        rules, label = self._rules, block.labels[place]
        known = self._feedback.get(block.journeys[place])
        if known is not None and known.phase != EARLY:
            return None  # its journey is decided, or was sent without us
        body = block.bodies[place]
        subject = block.subjects[place] or getattr(body, "recipient", None) or body.subject
        ask = read_ask(
            block,
            place,
            zone=self._people.zone_of(subject, block.zones[place]),
            window_ms=rules.window_ms,
            window_ms_max=rules.window_ms_max,
        )
        if ask is None:
            return None
        if label.decision.consent:
            person = self._people.get(ask.subject)
            if person is None or label.purpose not in person.granted:
                tally.decisions["none", "no_consent"] += 1
                return None
        if ask.latest_ms and ask.latest_ms < ask.earliest_ms:
            tally.decisions["none", "expired"] += 1
            return None
        return ask

    def _draw(self, asks: Sequence[Ask], learners: Mapping[str, Learner]) -> list[Draw]:
        rules = self._rules
        found: dict[int, Draw] = {}
        waiting: list[Ask] = []
        for ask in asks:
            why = at_once(ask, priorities=rules.priorities, purposes=rules.purposes)
            if why:
                found[ask.place] = send_now(ask, why)
            else:
                waiting.append(ask)
        if waiting:
            allowed = allowed_slots(waiting, self._people, self._plans, rules.limits)
            some = np.asarray(allowed.slots.any(axis=1))
            for row in np.flatnonzero(~some).tolist():
                found[waiting[row].place] = send_now(waiting[row], "no_time_allowed")
            drawn = [ask for ask, any_ in zip(waiting, some, strict=True) if any_]
            if drawn:
                left = Allowed(allowed.slots[some], allowed.at_ms[some])
                draws = self._drawer.draw(drawn, left, learners, self._trial.explore)
                found.update((draw.ask.place, draw) for draw in draws)
        return [found[ask.place] for ask in asks]

    def _plan(self, draw: Draw, block: AcceptedBlock) -> None:
        ask = draw.ask
        channel = ask.channels[0] if len(ask.channels) == 1 else ANY_CHANNEL
        self._plans.add(ask.subject, draw.at_ms, channel, now_ms=ask.now_ms)
        send = Send(
            subject=ask.subject,
            campaign=ask.body.campaign,
            goal=ask.goal,
            window_ms=ask.window_ms,
            channel=channel,
            arm=draw.arm,
            phase=PLANNED,
            train=ask.label.decision.train is not Training.DENY,
            at_ms=draw.at_ms,
            slot=draw.slot,
            propensity=draw.propensity,
            odds=draw.bins,
            expected=draw.expected,
            decision=decision_id(draw),
            requested_ms=block.times_ms[ask.place],
            expires_day=expiry_of(draw, block.recorded_ms[ask.place]),
        )
        self._feedback.plan(ask.journey, send)
