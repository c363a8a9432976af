"""The world: people, campaigns and faults become a stream of messages that ends at a given time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain
from typing import Final

import msgspec

from flows.places import POLICY
from flows.simulate import creation
from flows.simulate.campaigns import CAMPAIGNS, Campaign
from flows.simulate.chance import dice, draw_id, draw_latency
from flows.simulate.course import Course
from flows.simulate.events import Event, Message, label_of, message_of
from flows.simulate.faults import Setting, as_conflict, as_misused, as_repeat, refuse
from flows.simulate.people import Person, make_people
from flows.simulate.plan import (
    CONFLICT,
    FAULTS,
    LATE,
    MISUSED,
    OUT_OF_ORDER,
    REPEAT,
    TOO_LATE,
    Shares,
    make_plan,
)
from flows.simulate.rhythm import ENERGY, HOUR_MS, hour_of_day
from schemas.errors import ConfigError
from schemas.policy import Policy, load_policy

_MARGIN_MS: Final = 600_000
_MINUTE_MS: Final = 60_000
_OLD_PROFILE: Final = 40
"""One profile of so many was long on its way: it counts, however late it is."""

_NEWCOMERS: Final = CAMPAIGNS[0]
_WEIGHTS: Final = [campaign.weight for campaign in CAMPAIGNS]
_FOLLOWERS: Final = frozenset((REPEAT, CONFLICT, MISUSED))


class World:
    """An invented world: the same seed and settings give the same messages, byte for byte.

    Iterating gives `total` messages in the order of publication, profiles first; it can be
    repeated. What a message has to become holds in whatever order partitions are read, as long
    as profiles come first and duplicates are remembered for `span_s` of event time.
    Units: `total` counts profiles too; event time spans `span_s` up to `end_ms`;
    `lateness_s` is the gate's bound of late corrections. Shapes: `node` is the gate's name; the
    policy is the one that comes with Airside unless given.
    Errors: ConfigError for settings that leave no room.
    """

    def __init__(
        self,
        seed: int,
        *,
        total: int,
        end_ms: int,
        policy: Policy | None = None,
        span_s: float = 21_600.0,
        people: int = 2_000,
        shares: Shares | None = None,
        node: str = "a1",
        lateness_s: float = 86_400.0,
    ) -> None:
        self.seed, self.total, self.end_ms = seed, total, end_ms
        self.policy = policy or load_policy(POLICY)
        self.span_ms, self.lateness_ms = int(span_s * 1_000), int(lateness_s * 1_000)
        self.start_ms = end_ms - self.span_ms
        self.node, self.shares = node, shares or Shares()
        if self.span_ms + 2 * HOUR_MS > self.lateness_ms:
            raise ConfigError(
                do="make",
                kind="world",
                found=f"a span of {span_s} s",
                expected="two hours less than late corrections reach",
                hint="shorten the span",
            )
        consents = [name for name, part in self.policy.purposes.items() if part.basis == "consent"]
        self._consents = tuple(consents)
        self._invent_people(min(people, total * 2 // 5))

    def _invent_people(self, count: int) -> None:
        """Residents have profiles, newcomers none; the departed have one and then a tombstone."""
        rng = dice(self.seed, "people")
        self.departed_count = min(1 + count // 500, count // 20)
        count -= 2 * self.departed_count
        parts = ((count, True), (1 + count // 33, False), (self.departed_count, True))
        drawn: list[list[Person]] = []
        first = 0
        for size, known in parts:
            drawn.append(
                make_people(
                    rng,
                    seed=self.seed,
                    count=size,
                    purposes=self._consents if known else (),
                    first=first,
                    known=known,
                )
            )
            first += size
        self.residents, self.newcomers, self.departed = drawn
        # Who left is a stranger again: a gate that missed the tombstone would still know them.
        self.strangers = [
            msgspec.structs.replace(person, known=False, granted=frozenset())
            for person in self.departed
        ] or self.newcomers
        self.profile_count = len(self.residents) + 2 * len(self.departed)
        self.stream_count = self.total - self.profile_count

    def __iter__(self) -> Iterator[Message]:
        return chain(self.profiles(), self.stream())

    def profiles(self) -> Iterator[Message]:
        """The profiles of all residents, and the departed with their tombstones."""
        rng = dice(self.seed, "profiles")
        label = label_of(
            "ntf.profile.updated.v1",
            "/preferences",
            "account_update",
            "GDPR,PII",
            ("behaviour", "contact"),
        )
        known = [*self.residents, *self.departed]
        for number, person in enumerate(known):
            sent_ms = self.start_ms - HOUR_MS // 2 + number * HOUR_MS // 2 // len(known)
            # All in one minute, so that a rollup that loses one of them is seen.
            old_ms = (self.start_ms - self.lateness_ms - HOUR_MS) // _MINUTE_MS * _MINUTE_MS
            at_ms = sent_ms if number % _OLD_PROFILE else old_ms + number
            event = Event(
                label=label,
                id=draw_id(rng, "evt-"),
                time_ms=at_ms,
                journey=draw_id(rng, "prf-"),
                subject=person.subject,
                key=person.key,
                cause="",
                body=person.profile("harbour", self._consents),
                zone=person.zone,
            )
            message = message_of(event, min(sent_ms + draw_latency(rng), self.end_ms))
            message.number = number
            yield message
        for number, person in enumerate(self.departed, len(known)):
            tombstone = Message(
                number=number,
                topic=label.topic,
                key=person.key,
                headers=[],
                value=None,
                timestamp_ms=self.start_ms,
                id="",
            )
            yield refuse(tombstone, kind="tombstone", code="T606")

    def stream(self) -> Iterator[Message]:
        """Everything after the profiles."""
        return iter(_Stream(self, self._consents))


class _Stream:
    """One pass through the stream: each place of it becomes one message.

    State: messages that come later, faults that wait for an event that suits them, and the
    partitions (by topic and key) that have had an accepted message.
    """

    def __init__(self, world: World, consents: tuple[str, ...]) -> None:
        self._world = world
        self._rng = dice(world.seed, "stream")
        self._course = Course(dice(world.seed, "journeys"), world.policy.version)
        self._setting = Setting(
            rng=dice(world.seed, "faults"),
            node=world.node,
            policy_version=world.policy.version,
            end_ms=world.end_ms,
            people={
                person.subject: person
                for person in (*world.residents, *world.newcomers, *world.strangers)
            },
            consents=frozenset(consents),
        )
        self._later: list[tuple[int, int, Message]] = []
        self._pending: list[str] = []
        self._advanced: set[tuple[str, str]] = set()
        self._slot_ms = world.start_ms

    def __iter__(self) -> Iterator[Message]:
        world = self._world
        places = world.stream_count
        plan = make_plan(
            dice(world.seed, "plan"), shares=world.shares, messages=world.total, places=places
        )
        for place in range(places):
            self._slot_ms = world.start_ms + world.span_ms * (place + 1) // (places + 1)
            if place in plan:
                self._pending.append(plan[place])
            later = self._later
            if later and (later[0][0] <= place or places - place <= len(later)):
                message = heapq.heappop(later)[2]
                self._send(message, self._slot_ms)
            else:
                message = self._next_message(place)
            message.number = world.profile_count + place
            yield message

    def _send(self, message: Message, at_ms: int) -> None:
        """Set the record's time, and note that its partition has moved on."""
        latency_ms = draw_latency(self._rng)
        message.timestamp_ms = min(at_ms + latency_ms, self._world.end_ms + 1_000)
        event = message.event
        if event is not None and message.fault != LATE:
            self._advanced.add((message.topic, event.subject))

    def _next_message(self, place: int) -> Message:
        """The message of the next event, made faulty where a fault is due that suits it."""
        while True:
            event = self._course.next_event(self._slot_ms) or self._begin()
            kind = self._due_fault(event)
            if kind == OUT_OF_ORDER:
                message = message_of(event, 0)
                message.fault = kind
                self._put_off(message, place + self._rng.randrange(3, 60))
                continue
            message = self._faulty(kind, event) if kind else message_of(event, 0)
            self._send(message, self._slot_ms if kind else event.time_ms)
            if not kind and self._pending:
                self._follow(place, message, event)
            return message

    def _put_off(self, message: Message, place: int) -> None:
        heapq.heappush(self._later, (place, self._rng.getrandbits(32), message))

    def _due_fault(self, event: Event) -> str:
        for number, kind in enumerate(self._pending):
            if self._suits(kind, event):
                return self._pending.pop(number)
        return ""

    def _suits(self, kind: str, event: Event) -> bool:
        if kind in _FOLLOWERS:
            return False
        if kind in (LATE, TOO_LATE):
            advanced = (event.label.topic, event.subject) in self._advanced
            return advanced and bool(event.subject)
        return kind == OUT_OF_ORDER or FAULTS[kind].suits(self._setting, event)

    def _faulty(self, kind: str, event: Event) -> Message:
        if kind in (LATE, TOO_LATE):
            return self._late(kind, event)
        fault = FAULTS[kind]
        message = fault.make(self._setting, event)
        if fault.code:
            return refuse(message, kind=kind, code=fault.code)
        message.fault = kind
        return message

    def _late(self, kind: str, event: Event) -> Message:
        """Move an event back: within what corrections reach from any place of the world, or out.

        Some partition of the lane may already be at the world's end, so that is where the reach
        is counted from; and this one may still be at its start, so that is where out begins.
        """
        world, rng = self._world, self._rng
        if kind == LATE:
            first_ms = world.end_ms - world.lateness_ms + _MARGIN_MS
            event.time_ms = rng.randrange(first_ms, max(event.time_ms - HOUR_MS, first_ms + 1))
            message = message_of(event, 0)
            message.fault = kind
            return message
        behind_ms = rng.randrange(60_000, 3 * 24 * HOUR_MS)
        event.time_ms = world.start_ms - world.lateness_ms - behind_ms
        return refuse(message_of(event, 0), kind=kind, code="T601")

    def _follow(self, place: int, message: Message, event: Event) -> None:
        """Make what follows an accepted message: its repeat, its double, its misuse."""
        for number, kind in enumerate(self._pending):
            if kind not in _FOLLOWERS:
                continue
            if kind == REPEAT:
                follower = as_repeat(message)
            elif kind == CONFLICT:
                follower = as_conflict(message, event)
            else:
                # What names nobody has a key of its own, so another lane may get what follows.
                purpose = self._foreign_purpose(event) if event.subject else ""
                if not purpose:
                    continue
                follower = as_misused(event, draw_id(self._rng, "evt-"), purpose)
            self._put_off(follower, place + self._rng.randrange(1, 40))
            self._pending.pop(number)
            return

    def _foreign_purpose(self, event: Event) -> str:
        """A purpose that the event is not open to, though its classes are; empty for none."""
        if event.label.rank > 4:  # noqa: PLR2004 - PCI, PHI and SPECIAL are bound to purposes
            return ""
        purposes = self._world.policy.purposes
        own = event.label.purpose
        foreign = [
            name for name in purposes if name != own and name not in purposes[own].compatible
        ]
        return self._setting.rng.choice(foreign)

    def _begin(self) -> Event:
        """Start a journey now, for someone who is likely to be awake."""
        course, rng = self._course, self._rng
        campaign = rng.choices(CAMPAIGNS, _WEIGHTS)[0]
        person: Person | None = None
        if not campaign.audience:
            person = self._someone()
            for _ in range(6):
                if self._may_reach(campaign, person):
                    break
                campaign = rng.choices(CAMPAIGNS, _WEIGHTS)[0]
            else:
                campaign = _NEWCOMERS
        arm = rng.choice("ab") if campaign.experiment else ""
        journey = course.start(campaign, person, arm=arm)
        return creation.created(course, journey, self._slot_ms, "")

    def _may_reach(self, campaign: Campaign, person: Person) -> bool:
        if campaign.audience or not person.known:
            return campaign is _NEWCOMERS
        consented = campaign.purpose not in self._setting.consents
        return consented or campaign.purpose in person.granted

    def _someone(self) -> Person:
        rng, world = self._rng, self._world
        pool = world.residents
        luck = rng.random()
        if not pool or luck < 0.04:  # noqa: PLR2004 - a few are new here, some of them again
            return rng.choice(world.strangers if luck < 0.01 else world.newcomers)  # noqa: PLR2004 - as above
        person = rng.choice(pool)
        for _ in range(4):
            hour = hour_of_day(person.zone, self._slot_ms)
            if rng.random() < ENERGY[person.chronotype][hour] + 0.1:
                break
            person = rng.choice(pool)
        return person
