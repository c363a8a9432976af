"""What a result is put down to: the last touch, the first one, or all of them alike.

A touch is an act by which a person took notice of a message: an open or click of their own, a
call to action, a reply. A result is put down to touches of the same person within a window before
it, whichever journeys they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from flows.journey.acts import bits
from flows.journey.rules import JourneyRules
from flows.journey.story import Told
from flows.journey.wheel import Wheel
from flows.steps.noted import Changes, Noted

TOUCHES: Final = bits(
    ("engagement.opened", "engagement.clicked", "engagement.cta", "engagement.replied")
)

LAST: Final = "last_touch"
FIRST: Final = "first_touch"
LINEAR: Final = "linear"
DIRECT: Final = "direct"
"""A reaction to the message itself: there is nothing to share out."""


class Touch(NamedTuple):
    """One touch. Ordered by time, then by the hash of its event's id."""

    at_ms: int
    event: int
    journey: str
    campaign: str
    notification: str


class Result(NamedTuple):
    """One result of a person, as long as a late touch may still change what it is put down to."""

    at_ms: int
    event: int
    kind: str
    journey: str
    notification: str
    campaign: str
    channel: str
    arm: str
    purpose: str
    classes: str
    sensitivity: int
    amount_minor: int
    currency: str
    expires_day: int


class Share(NamedTuple):
    """The part of a result that one journey gets under one model.

    Shapes: the weights of one result under one model add up to 1; `slot` counts them from 0.
    """

    model: str
    slot: int
    touch: Touch | None
    weight: float


class Person(msgspec.Struct, array_like=True, gc=False):
    """What is kept of one person. Shapes: both sorted."""

    touches: list[Touch] = []
    results: list[Result] = []


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Person).decode


def share_out(result: Result, touches: list[Touch], window_ms: int) -> tuple[list[Share], int]:
    """What a result is put down to, and how many touches there were.

    Without a touch in the window the whole result stays with nobody, under each model.
    """
    from_ms = result.at_ms - window_ms
    inside = sorted(touch for touch in touches if from_ms <= touch.at_ms <= result.at_ms)
    if not inside:
        return [Share(model, 0, None, 1.0) for model in (LAST, FIRST, LINEAR)], 0
    shares = [Share(LAST, 0, inside[-1], 1.0), Share(FIRST, 0, inside[0], 1.0)]
    each: dict[str, Touch] = {}
    for touch in inside:
        each.setdefault(touch.journey, touch)
    # By name, not by time: a late touch then moves no journey from its place without need.
    for slot, journey in enumerate(sorted(each)):
        shares.append(Share(LINEAR, slot, each[journey], 1.0 / len(each)))
    return shares, len(inside)


class People:
    """Touches and results of a lane's people, by subject, as bytes.

    State: of each person `touches_max` touches and `outcomes_max` results, the latest ones. A
    touch is kept while a result may come that it counts for, a result while a touch may come.
    """

    def __init__(self, rules: JourneyRules) -> None:
        self._rules = rules
        self._people: Noted[str, bytes] = Noted()
        self._wheel = Wheel()

    def __len__(self) -> int:
        return len(self._people)

    def take(
        self, subject: str, touches: list[Touch], results: list[Result], watermark_ms: int
    ) -> list[tuple[Result, list[Share], int]]:
        """Take a person's touches and results in; every result whose shares are new comes back."""
        rules = self._rules
        packed = self._people.get(subject)
        person = Person() if packed is None else _decode(packed)
        known = {touch.event for touch in person.touches}
        fresh = [touch for touch in touches if touch.event not in known]
        kept = {result.event for result in person.results}
        new = [result for result in results if result.event not in kept]
        person.touches = sorted([*person.touches, *fresh])
        person.results = sorted([*person.results, *new])
        changed = [
            result
            for result in person.results
            if result in new
            or any(result.at_ms - rules.window_ms <= one.at_ms <= result.at_ms for one in fresh)
        ]
        told = [(one, *share_out(one, person.touches, rules.window_ms)) for one in changed]
        del person.touches[: -rules.touches_max]
        del person.results[: -rules.outcomes_max]
        self._keep(subject, person, watermark_ms, known=packed is not None)
        return told

    def _keep(self, subject: str, person: Person, watermark_ms: int, *, known: bool) -> None:
        """Leave out what nothing can need any more; the gate lets nothing in that is later."""
        rules = self._rules
        reach_ms = watermark_ms - rules.lateness_ms
        person.touches = [one for one in person.touches if one.at_ms + rules.window_ms >= reach_ms]
        person.results = [one for one in person.results if one.at_ms >= reach_ms]
        if not person.touches and not person.results:
            self._people.drop(subject)
            return
        packed = _encode(person)
        if packed != self._people.get(subject):
            self._people.put(subject, packed)
        if not known:
            self._wheel.add(subject, self._due_ms(person))

    def _due_ms(self, person: Person) -> int:
        """When the first thing of a person can be left out."""
        dues = [one.at_ms + self._rules.window_ms for one in person.touches[:1]]
        dues += [one.at_ms for one in person.results[:1]]
        return min(dues) + self._rules.lateness_ms + 1

    def pass_time(self, watermark_ms: int) -> None:
        """Leave out what nothing can need any more."""
        for subject in self._wheel.take(watermark_ms):
            packed = self._people.get(subject)
            if packed is not None:
                self._keep(subject, _decode(packed), watermark_ms, known=True)
                left = self._people.get(subject)
                if left is not None:
                    person = _decode(left)
                    self._wheel.add(subject, max(self._due_ms(person), watermark_ms + 60_000))

    def dump(self) -> dict[str, Any]:
        """A copy, for a snapshot."""
        return {"subjects": list(self._people), "people": list(self._people.values())}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._people.fill(dumped["subjects"], dumped["people"])
        self._wheel = Wheel()
        self._look_at(self._people)

    def _look_at(self, subjects: Iterable[str]) -> None:
        """Look at these with the first block; whoever has nothing due goes on by its own time."""
        for subject in subjects:
            self._wheel.add(subject, 0)

    def watch(self) -> None:
        """Note changes from now on."""
        self._people.watch()

    def take_changes(self) -> Changes | None:
        """What changed since the last time; None for nothing."""
        return self._people.take_changes()

    def apply(self, changes: Changes | None) -> None:
        """Change as `take_changes` told."""
        if changes is not None:
            self._people.apply(changes)
            self._look_at(changes[1])


def touch_of(told: Told) -> Touch | None:
    """The touch that an event is, if it is one."""
    if not TOUCHES >> told.act & 1:
        return None
    return Touch(told.at_ms, told.event, told.journey, told.campaign, told.notification)
