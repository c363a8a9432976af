"""The course of the world: journeys, what is due next, and the way an event is told."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from flows.simulate.campaigns import Campaign, label_in
from flows.simulate.chance import draw_delay, draw_id
from flows.simulate.events import RANK_OF_A_PERSON, Event
from flows.simulate.people import Person
from flows.simulate.rhythm import ENERGY, hour_of_day, wait_until_awake
from schemas.ticket import Header


class Journey(msgspec.Struct):
    """One recipient's way through one notification; a broadcast has no person."""

    id: str
    campaign: Campaign
    person: Person | None
    body: dict[str, Any]
    channel: str
    provider: str = ""
    arm: str = ""
    message_id: str = ""
    attempt: int = 1
    failed_over: bool = False


Step = Callable[["Course", Journey, int, str], Event]
"""A step tells the event that happens at a time for a cause, and says what may follow."""


class Course:
    """What is due, in the order of event time. State: one entry for each event to come."""

    def __init__(self, rng: Random, policy_version: int) -> None:
        self.rng = rng
        self._stamp = str(policy_version).encode()
        self._due: list[tuple[int, int, Step, Journey, str]] = []
        self._count = 0

    def start(self, campaign: Campaign, person: Person | None, *, arm: str) -> Journey:
        """A new journey, with nothing due yet."""
        rng = self.rng
        body = {
            "journey_id": draw_id(rng, "jny-"),
            "notification_id": draw_id(rng, "ntf-"),
            "campaign": campaign.name,
            "tenant": campaign.tenant,
        }
        if person is not None and rng.random() < 0.8:  # noqa: PLR2004 - some producers leave it out
            body["subject"] = person.subject
        open_to = [
            name for name in campaign.channels if person is None or name in person.channels
        ] or [campaign.channels[0]]
        channel = rng.choice(open_to)
        return Journey(body["journey_id"], campaign, person, body, channel, arm=arm)

    def later(self, step: Step, journey: Journey, due_ms: int, cause: str) -> None:
        """Let a step happen at a time."""
        self._count += 1
        heapq.heappush(self._due, (due_ms, self._count, step, journey, cause))

    def soon(self, step: Step, journey: Journey, parent: Event, typical_ms: float) -> None:
        """Let a step follow an event after a drawn delay."""
        due_ms = parent.time_ms + draw_delay(self.rng, typical_ms)
        self.later(step, journey, due_ms, parent.id)

    def next_event(self, until_ms: int) -> Event | None:
        """The next event that is due by a time, if there is one."""
        if not self._due or self._due[0][0] > until_ms:
            return None
        due_ms, _, step, journey, cause = heapq.heappop(self._due)
        return step(self, journey, due_ms, cause)

    def tell(self, journey: Journey, kind: str, at_ms: int, cause: str, **fields: Any) -> Event:
        """One event of a journey; `fields` come on top of what every body has."""
        person = journey.person
        known = person is not None and person.known
        label = label_in(journey.campaign, kind, journey.channel)
        personal = person is not None and label.rank >= RANK_OF_A_PERSON
        event_id = draw_id(self.rng, "evt-")
        event = Event(
            label=label,
            id=event_id,
            time_ms=at_ms,
            journey=journey.id,
            subject=person.subject if person else "",
            key=person.key if person else event_id.encode(),
            cause=cause,
            body={**journey.body, **fields},
            zone=person.zone if person and known and personal else "",
            warnings=("T604",) if personal and not known else (),
        )
        self._add_extras(event)
        return event

    def _add_extras(self, event: Event) -> None:
        """Some producers trace, some stamp the policy, some came through a gateway."""
        luck = self.rng.random()
        extras: list[Header] = []
        if luck < 0.25:  # noqa: PLR2004 - a quarter is traced
            event.trace_id = f"{self.rng.getrandbits(128) | 1:032x}"
            extras.append(("traceparent", f"00-{event.trace_id}-{event.id[4:]}-01".encode()))
        if 0.2 < luck < 0.4:  # noqa: PLR2004 - some are stamped, some of them traced too
            extras += [("ce_datapolicy", self._stamp), ("ce_datahops", b"in.gw1.0>va.gw1.2")]
        elif luck > 0.9:  # noqa: PLR2004 - a tenth has a header of its own
            extras.append(("x-producer-build", b"4182"))
        event.extras = tuple(extras)

    def readiness(self, journey: Journey, at_ms: int) -> float:
        """How likely the person is to react now, before any base rate; 0.04 to about 2."""
        person = journey.person
        if person is None:
            return 0.0
        energy = ENERGY[person.chronotype][hour_of_day(person.zone, at_ms)]
        boost = 1.15 if journey.arm == "b" else 1.0
        return energy * person.keenness * journey.campaign.appeal * boost

    def patience_ms(self, journey: Journey, at_ms: int) -> int:
        """How long until the person looks: minutes by day, the rest of the night before that."""
        person = journey.person
        asleep_h = 0
        if person is not None:
            asleep_h = wait_until_awake(person.chronotype, hour_of_day(person.zone, at_ms))
        return asleep_h * 3_600_000 + draw_delay(self.rng, 240_000)
