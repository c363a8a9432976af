"""The book of a lane's journeys: every open story, its timers, and what was forgotten of late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from flows.journey.rules import JourneyRules
from flows.journey.story import (
    COLUMNS,
    Story,
    Told,
    due_of,
    fold,
    moments_of,
    pack,
    row_of,
    state_of,
    unpack,
)
from flows.journey.wheel import Wheel
from flows.steps.noted import Changes, Noted
from schemas.blocks import Rows, rows_of
from schemas.ticket import hash64

_EVICTED_SHARE: Final = 64
_MINUTE_MS: Final = 60_000


class Ended(NamedTuple):
    """A journey that timed out, and after how long a silence. Units: milliseconds."""

    journey: str
    story: Story
    patience_ms: int


class Book:
    """Stories by journey, as bytes: about 400 of them for a journey from request to payment.

    State: `journeys_max` stories; for one more, those that were silent longest are forgotten
    before their time. What is forgotten leaves a hash and a time for as long as the rules say;
    an event of it changes no row then.
    """

    def __init__(self, rules: JourneyRules) -> None:
        self._rules = rules
        self._stories: Noted[str, bytes] = Noted()
        self._wheel = Wheel()
        self._forgotten: Noted[int, int] = Noted()
        self.ignored = 0

    def __len__(self) -> int:
        return len(self._stories)

    def fold(self, events: Mapping[str, list[Told]], watermark_ms: int) -> tuple[Rows, list[Told]]:
        """Take a block's events in, by journey.

        Shapes: the rows of the journeys that changed, and the events that are no repeats: new to
        their journey, or to one that was forgotten.
        """
        rows = []
        new: list[Told] = []
        for journey, told in events.items():
            packed = self._stories.get(journey)
            if packed is None and hash64(journey.encode()) in self._forgotten:
                self.ignored += len(told)
                new += told
                continue
            story = Story() if packed is None else unpack(packed)
            fresh = fold(story, told, moments_max=self._rules.moments_max)
            if not fresh:
                continue
            new += fresh
            story.ended = story.ended and story.last_ms + self._rules.timeout_ms <= watermark_ms
            due_ms = self._due_ms(story)
            if packed is None or due_ms < due_of(packed):
                self._wheel.add(journey, due_ms)
            self._stories.put(journey, pack(story, due_ms))
            rows.append(row_of(journey, story))
        if len(self._stories) > self._rules.journeys_max:
            self._make_room(watermark_ms)
        return journey_rows(rows), new

    def story_of(self, journey: str) -> Story | None:
        """A copy of a journey's story; None for one that is not known, or forgotten."""
        packed = self._stories.get(journey)
        return None if packed is None else unpack(packed)

    def _due_ms(self, story: Story) -> int:
        """When something has to be done about a story: time it out, or forget it."""
        if story.ended or state_of(story, moments_of(story)) != "open":
            return story.last_ms + self._rules.forget_ms
        return story.last_ms + self._rules.timeout_ms

    def pass_time(self, watermark_ms: int) -> tuple[Rows, list[Ended]]:
        """Do what is due by now: journeys that time out come back, with their rows."""
        rows, ended = [], []
        for journey in self._wheel.take(watermark_ms):
            packed = self._stories.get(journey)
            if packed is None:
                continue
            due_ms = due_of(packed)
            if due_ms > watermark_ms:
                self._wheel.add(journey, due_ms)
                continue
            story = unpack(packed)
            if story.last_ms + self._rules.forget_ms <= watermark_ms:
                self._forget(journey, watermark_ms)
            if not story.ended and state_of(story, moments_of(story)) == "open":
                story.ended = True
                rows.append(row_of(journey, story))
                ended.append(Ended(journey, story, self._rules.timeout_ms))
            if journey in self._stories:
                due_ms = story.last_ms + self._rules.forget_ms
                self._stories.put(journey, pack(story, due_ms))
                self._wheel.add(journey, due_ms)
        self._forget_the_forgotten(watermark_ms)
        return journey_rows(rows), ended

    def _forget(self, journey: str, watermark_ms: int) -> None:
        self._stories.drop(journey)
        self._forgotten.put(hash64(journey.encode()), watermark_ms // _MINUTE_MS)

    def _make_room(self, watermark_ms: int) -> None:
        """Forget the journeys that were silent longest, a share of all of them at once."""
        ages = sorted((unpack(packed).last_ms, name) for name, packed in self._stories.items())
        count = len(ages) - self._rules.journeys_max + self._rules.journeys_max // _EVICTED_SHARE
        for _, journey in ages[:count]:
            self._forget(journey, watermark_ms)

    def _forget_the_forgotten(self, watermark_ms: int) -> None:
        """Oldest first: they were forgotten in the order of event time."""
        limit = (watermark_ms - self._rules.tombstone_ms) // _MINUTE_MS
        old: list[int] = []
        for event, minute in self._forgotten.items():
            if minute >= limit and len(self._forgotten) - len(old) <= self._tombstones_max:
                break
            old.append(event)
        for event in old:
            self._forgotten.drop(event)

    @property
    def _tombstones_max(self) -> int:
        return 4 * self._rules.journeys_max

    def dump(self) -> dict[str, Any]:
        """A copy, for a snapshot."""
        return {
            "journeys": list(self._stories),
            "stories": list(self._stories.values()),
            "forgotten": np.array(list(self._forgotten), np.uint64).tobytes(),
            "minutes": np.array(list(self._forgotten.values()), np.int64).tobytes(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._stories.fill(dumped["journeys"], dumped["stories"])
        self._wheel = Wheel()
        for journey, packed in self._stories.items():
            self._wheel.add(journey, due_of(packed))
        events = np.frombuffer(dumped["forgotten"], np.uint64).tolist()
        minutes = np.frombuffer(dumped["minutes"], np.int64).tolist()
        self._forgotten.fill(events, minutes)

    def watch(self) -> None:
        """Note changes from now on."""
        self._stories.watch()
        self._forgotten.watch()

    def take_changes(self) -> list[Changes | None]:
        """What changed since the last time."""
        return [self._stories.take_changes(), self._forgotten.take_changes()]

    def apply(self, changes: list[Changes | None]) -> None:
        """Change as `take_changes` told."""
        stories, forgotten = changes
        if stories is not None:
            self._stories.apply(stories)
            for journey, packed in zip(*stories[1:], strict=True):
                self._wheel.add(journey, due_of(packed))
        if forgotten is not None:
            self._forgotten.apply(forgotten)


def journey_rows(rows: list[tuple[Any, ...]]) -> Rows:
    """Rows as `row_of` makes them, as rows of the table."""
    return rows_of("journeys", COLUMNS, rows)
