"""Watch a lane's journeys for exceptions: what is wrong is told once event time has passed it.

An act is judged when the watermark has passed its whole minute, in the order of event time, so the
order of arrival decides nothing as long as events come before the watermark does. One that comes
later is judged with its journey again: what it makes wrong is told then, and what was told before
stays told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from flows.journey.book import Ended
from flows.journey.story import Moment, Story, Told, moments_of
from flows.journey.wheel import Wheel
from flows.process.judge import Finding, Rules, judge, judge_silence
from flows.steps.noted import Changes, Noted

MINUTE_MS: Final = 60_000

StoryOf = Callable[[str], Story | None]
"""Gives the story of a journey, if it is not forgotten."""


class Exceptional(NamedTuple):
    """A journey, its story then, and what is wrong with it that was not told before."""

    journey: str
    story: Story
    finding: Finding


class Watch:
    """What was told of a lane's journeys, and when to look at which again.

    State: the rules that a journey broke, for as long as the book knows the journey: nothing for
    one that broke none; and when to look, for journeys with something to judge ahead.
    """

    def __init__(self, rules: Rules, *, forget_ms: int) -> None:
        self._rules = rules
        self._forget_ms = forget_ms
        self._told: Noted[str, list[str]] = Noted()
        self._due: Noted[str, int] = Noted()
        self._wheel = Wheel()

    def note(self, events: Iterable[Told]) -> None:
        """Look at the journeys of these events once their time has passed."""
        for told in events:
            self._look(told.journey, told.at_ms)

    def _look(self, journey: str, due_ms: int) -> None:
        known = self._due.get(journey)
        if known is None or due_ms < known:
            self._due.put(journey, due_ms)
            self._wheel.add(journey, due_ms)

    def pass_time(self, watermark_ms: int, story_of: StoryOf) -> list[Exceptional]:
        """Judge the journeys with something in the minutes that have passed."""
        horizon_ms = watermark_ms // MINUTE_MS * MINUTE_MS
        found = []
        for journey in self._wheel.take(horizon_ms - MINUTE_MS):
            due_ms = self._due.get(journey)
            if due_ms is None or due_ms >= horizon_ms:
                continue  # looked at before; a later entry of the wheel stands for it
            self._due.drop(journey)
            story = story_of(journey)
            if story is None:
                self._told.drop(journey)
                continue
            moments = moments_of(story)
            whole = story.n == len(moments)
            findings = judge(self._rules, moments, horizon_ms=horizon_ms, whole=whole)
            found += self._new(journey, story, findings)
            self._look_again(journey, story, moments, horizon_ms)
        return found

    def _look_again(
        self, journey: str, story: Story, moments: list[Moment], horizon_ms: int
    ) -> None:
        """At the next act or deadline that lies ahead; else, if it was told of, to forget that."""
        ahead = []
        for moment in moments:
            due_ms = self._rules.due_ms(moment)
            ahead += [at_ms for at_ms in (moment.at_ms, due_ms) if at_ms and at_ms >= horizon_ms]
        if not ahead and journey in self._told:
            ahead = [max(story.last_ms + self._forget_ms, horizon_ms) + MINUTE_MS]
        if ahead:
            self._look(journey, min(ahead))

    def end(self, ended: Iterable[Ended]) -> list[Exceptional]:
        """Judge journeys that timed out."""
        found = []
        for one in ended:
            moments = moments_of(one.story)
            if one.story.n != len(moments):
                continue
            at_ms = one.story.last_ms + one.patience_ms
            findings = judge_silence(self._rules, moments, at_ms=at_ms)
            found += self._new(one.journey, one.story, findings)
            if findings:
                self._look(one.journey, at_ms + self._forget_ms)
        return found

    def _new(self, journey: str, story: Story, findings: list[Finding]) -> list[Exceptional]:
        told = self._told.get(journey) or []
        new = [finding for finding in findings if finding.rule not in told]
        if new:
            self._told.put(journey, [*told, *(finding.rule for finding in new)])
        return [Exceptional(journey, story, finding) for finding in new]

    def dump(self) -> dict[str, Any]:
        """A copy, for a snapshot."""
        return {
            "told": {journey: list(rules) for journey, rules in self._told.items()},
            "journeys": list(self._due),
            "due": list(self._due.values()),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave; nothing, where an earlier release dumped none."""
        told = dumped.get("told", {})
        self._told.fill(told, told.values())
        self._due.fill(dumped.get("journeys", ()), dumped.get("due", ()))
        self._wheel = Wheel()
        for journey, due_ms in self._due.items():
            self._wheel.add(journey, due_ms)

    def watch(self) -> None:
        """Note changes from now on."""
        self._told.watch()
        self._due.watch()

    def take_changes(self) -> list[Changes | None]:
        """What changed since the last time."""
        return [self._told.take_changes(), self._due.take_changes()]

    def apply(self, changes: list[Changes | None]) -> None:
        """Change as `take_changes` told."""
        told, due = changes
        if told is not None:
            self._told.apply(told)
        if due is not None:
            self._due.apply(due)
            for journey, due_ms in zip(*due[1:], strict=True):
                self._wheel.add(journey, due_ms)
