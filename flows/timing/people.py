"""What people told us of themselves: zone, preferred hours, consent. The latest of each."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_INTERNED_MAX: Final = 4_096


class Person(msgspec.Struct, frozen=True, gc=False):
    """What a delivery time needs of a profile. Shapes: `granted` are purposes consented to."""

    zone: str
    hours: tuple[int, ...]
    granted: frozenset[str]


class PeopleTable:
    """The latest profile of every subject of a lane.

    State: one entry a subject, shared by those that say the same. Read again from the compacted
    topic at each start, so no snapshot holds it.
    """

    def __init__(self) -> None:
        self._people: dict[str, Person] = {}
        self._interned: dict[Person, Person] = {}

    def hold(self, body: Any) -> tuple[int, ...] | None:
        """Take a profile; gives its preferred hours where they are others than before."""
        hours = tuple(sorted(set(body.preferred_hours)))
        granted = frozenset(purpose for purpose, yes in body.consent.items() if yes)
        person = Person(body.zone, hours, granted)
        if len(self._interned) >= _INTERNED_MAX:
            self._interned.clear()
        before = self._people.get(body.subject)
        self._people[body.subject] = self._interned.setdefault(person, person)
        known = before.hours if before is not None else ()
        return hours if hours != known else None

    def forget(self, subject: str) -> None:
        """Take a removal."""
        self._people.pop(subject, None)

    def get(self, subject: str) -> Person | None:
        """The latest profile of a subject, if one is known."""
        return self._people.get(subject)

    def zone_of(self, subject: str | None, otherwise: str) -> str:
        """The zone that a person told us, or another; empty when none is known."""
        person = self._people.get(subject) if subject else None
        return person.zone if person is not None else otherwise
