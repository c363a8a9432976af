"""What a lane hears of its messages: sendings, responses, and what else people do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from flows.timing.ask import ENDING
from flows.timing.calendar import slot_at
from flows.timing.feedback import EARLY, ENDED, NO_SLOT, OUTSIDE, PLANNED, Feedback, Send
from flows.timing.learners import Learner
from flows.timing.people import PeopleTable
from flows.timing.plans import ANY_CHANNEL, Plans
from flows.timing.rules import LaneRules, Tally
from schemas.blocks import AcceptedBlock
from schemas.policy import Training

SENT: Final = frozenset(("ntf.delivery.sent.v1", "ntf.delivery.delivered.v1"))
BACK: Final = frozenset(
    ("ntf.delivery.bounced.v1", "ntf.delivery.failed.v1", "ntf.delivery.failover.v1")
)
DROPPED: Final = "ntf.delivery.dropped.v1"
_ENGAGEMENT: Final = "ntf.engagement."
_NO_ACTIVITY: Final = "ntf.engagement.token_invalidated.v1"


class Ears:
    """Reads events.

    State: none of its own; it notes what it reads in the lane's feedback, plans and models.
    """

    def __init__(
        self, rules: LaneRules, *, people: PeopleTable, plans: Plans, feedback: Feedback
    ) -> None:
        self._rules = rules
        self._people = people
        self._plans = plans
        self._feedback = feedback

    def hear(self, block: AcceptedBlock, learners: Mapping[str, Learner], tally: Tally) -> None:
        """Take sendings, responses and people's own activity, in their order."""
        users: list[str] = []
        slots: list[int] = []
        for place, label in enumerate(block.labels):
            kind = label.type
            if kind in SENT:
                self._note_sent(block, place)
            elif kind in BACK:
                self._feedback.note_back(block.journeys[place])
            elif kind in ENDING or kind == DROPPED:
                self._note_end(block, place, kind)
            elif kind.startswith((_ENGAGEMENT, "ntf.outcome.")):
                if getattr(block.bodies[place], "machine", False):
                    continue
                self._note_response(block, place, tally)
                subject = block.subjects[place] or block.bodies[place].subject
                zone = self._people.zone_of(subject, block.zones[place])
                trains = label.decision.train is not Training.DENY
                is_activity = kind.startswith(_ENGAGEMENT) and kind != _NO_ACTIVITY
                if is_activity and subject and zone and trains:
                    users.append(subject)
                    slots.append(slot_at(zone, block.times_ms[place]))
        if users:
            for learner in learners.values():
                learner.observe_activity(users, np.array(slots, np.int64))

    def _blank(self, block: AcceptedBlock, place: int, phase: int) -> Send | None:
        """A message that nobody decided here; None for one that is to nobody we know."""
        body, subject = block.bodies[place], block.subjects[place] or block.bodies[place].subject
        if not subject:
            return None
        zone = self._people.zone_of(subject, block.zones[place])
        at_ms = block.times_ms[place]
        return Send(
            subject=subject,
            campaign=body.campaign,
            goal="",
            window_ms=self._rules.window_ms,
            channel=body.channel or ANY_CHANNEL,
            arm=OUTSIDE,
            phase=phase,
            train=block.labels[place].decision.train is not Training.DENY,
            at_ms=at_ms,
            sent_ms=at_ms if phase == PLANNED else 0,
            sent_slot=slot_at(zone, at_ms) if zone and phase == PLANNED else NO_SLOT,
        )

    def _ended(self, block: AcceptedBlock, place: int) -> Send | None:
        """What to remember of a journey that is called off: a request may arrive after that."""
        subject = block.subjects[place] or block.bodies[place].subject
        if not subject or not block.journeys[place]:
            return None
        return Send(
            subject=subject,
            campaign="",
            goal="",
            window_ms=0,
            channel=ANY_CHANNEL,
            arm=OUTSIDE,
            phase=ENDED,
            train=True,
            at_ms=block.times_ms[place],
        )

    def _note_sent(self, block: AcceptedBlock, place: int) -> None:
        sent = self._blank(block, place, PLANNED)
        if sent is None:
            return
        before = self._feedback.get(block.journeys[place])
        planned = (before.at_ms, before.channel) if before and before.phase == PLANNED else None
        send = self._feedback.note_sent(block.journeys[place], sent)
        if planned is not None:
            self._plans.drop(send.subject, *planned)
        if planned is not None or send is sent:
            self._plans.add(send.subject, send.sent_ms, send.channel, now_ms=send.sent_ms)

    def _note_end(self, block: AcceptedBlock, place: int, kind: str) -> None:
        journey = block.journeys[place]
        if kind == DROPPED:
            self._feedback.note_back(journey)
        planned = self._feedback.note_end(journey, self._ended(block, place))
        if planned is not None:
            self._plans.drop(planned.subject, planned.at_ms, planned.channel)

    def _note_response(self, block: AcceptedBlock, place: int, tally: Tally) -> None:
        rules, journey, label = self._rules, block.journeys[place], block.labels[place]
        known = self._feedback.get(journey)
        goal = known.goal if known is not None else ""
        if label.type not in rules.goals.get(goal, rules.responses):
            return
        early = self._blank(block, place, EARLY)
        if label.decision.train is Training.DENY:
            # Neither a positive nor, later, a negative.
            self._feedback.deny(journey, early=early)
            tally.outcomes["denied"] += 1
            return
        if early is not None:
            self._feedback.note_response(journey, block.times_ms[place], early=early)
