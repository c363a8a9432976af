"""What became of each message: sent or not, and answered within its window or not.

Every journey of a lane is in one of five phases. A response closes it as positive at once; a
timer in event time closes it as negative; a response that was made in time and arrives after the
timer corrects that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

import msgspec

from flows.steps.noted import Noted

MINUTE_MS: Final = 60_000
OPTIMISED, HOLDOUT, IMMEDIATE, OUTSIDE = range(4)
"""Arms by number; what nobody decided here is outside."""

PLANNED, OPEN, CLOSED, EARLY, ENDED = range(5)
"""Phases: has a time; was sent; is judged; a response came before we heard of any sending; called
off, so that a request which arrives after that gets no time."""

NO_SLOT: Final = -1


class Send(msgspec.Struct, array_like=True, gc=False):
    """One journey's message.

    Units: milliseconds since 1970 UTC; 0 means not yet. `odds` are those of the bins of slots at
    the draw, as float32 bytes; `expected` the response that was expected of the drawn slot.
    `requested_ms` and `expires_day` (since 1970) place the row of its outcome.
    """

    subject: str
    campaign: str
    goal: str
    window_ms: int
    channel: str
    arm: int
    phase: int
    train: bool
    at_ms: int
    slot: int = NO_SLOT
    propensity: float = 1.0
    odds: bytes = b""
    expected: float = 0.0
    decision: str = ""
    requested_ms: int = 0
    expires_day: int = 0
    sent_ms: int = 0
    sent_slot: int = NO_SLOT
    kept: bool = False
    first_ms: int = 0
    answered: bool = False

    @property
    def counts(self) -> bool:
        """Whether its outcome may be used to compare arms: drawn with known odds, sent as drawn."""
        return self.kept and self.arm in (OPTIMISED, HOLDOUT)


class Lesson(msgspec.Struct, frozen=True, gc=False):
    """One outcome: learned now, or turned from negative to positive.

    Units: `at_ms` is when the response was made, 0 for none.
    """

    journey: str
    send: Send
    responded: bool
    at_ms: int = 0
    corrects: bool = False


class Rules(msgspec.Struct, frozen=True):
    """Units: milliseconds; journeys.

    `kept_ms` is how far from its decided time a message may be sent and still count as sent
    then; `correct_ms` how long after its window a late response is waited for; `wait_ms` how long
    after its time a planned message is.
    """

    kept_ms: int
    correct_ms: int
    wait_ms: int
    journeys_max: int


class Feedback:
    """All journeys of a lane whose outcome is not final yet, and their timers.

    State: one entry a journey, at most `journeys_max`; past that the oldest is given up, and
    counts nowhere. `erased` tells that somebody was forgotten since changes were told.
    Delivery: the same calls in the same order give the same lessons in the same order.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._sends: Noted[str, Send] = Noted()
        self._due: dict[int, list[str]] = {}
        self._minutes: list[int] = []
        self.lessons: list[Lesson] = []
        self.given_up = 0
        self.erased = False

    def __len__(self) -> int:
        return len(self._sends)

    def get(self, journey: str) -> Send | None:
        """What is known of a journey."""
        return self._sends.get(journey)

    def plan(self, journey: str, send: Send) -> None:
        """Note a decision; what came before it of its journey is kept."""
        known = self._sends.drop(journey)
        if known is not None:
            send.first_ms, send.train = known.first_ms, send.train and known.train
        self._keep(journey, send)

    def note_sent(self, journey: str, sent: Send) -> Send:
        """Note that a message was sent; `sent` says when and in which slot, and of whom.

        Gives what is known of it. A second report of one sending changes nothing.
        """
        send = self._sends.get(journey)
        if send is None or send.phase in (EARLY, ENDED):
            if send is not None:
                sent.first_ms, sent.train = send.first_ms, sent.train and send.train
            send = sent
        elif send.phase == PLANNED:
            send.sent_ms, send.sent_slot = sent.sent_ms, sent.sent_slot
            send.channel = sent.channel
            send.train = send.train and sent.train
            send.kept = abs(send.sent_ms - send.at_ms) <= self._rules.kept_ms
        else:
            return send
        send.phase = OPEN
        self._sends.drop(journey)
        self._keep(journey, send)
        if send.first_ms and self._in_window(send, send.first_ms):
            self._judge(journey, send, at_ms=send.first_ms)
        return send

    def note_back(self, journey: str) -> None:
        """Note that a message did not arrive: what follows is another sending, or nothing."""
        send = self._sends.get(journey)
        if send is not None and send.phase == OPEN:
            send.phase, send.sent_ms, send.sent_slot, send.kept = PLANNED, 0, NO_SLOT, False
            self._sends.put(journey, send)
            self._time(journey, send)

    def note_end(self, journey: str, ended: Send | None) -> Send | None:
        """Note that nothing will be sent; gives what was planned.

        `ended` is what to remember of the journey, None where nobody is known to be asked for it.
        """
        send = self._sends.get(journey)
        if send is not None and send.phase not in (PLANNED, EARLY):
            return None
        self._sends.drop(journey)
        if ended is not None:
            if send is not None:
                ended.first_ms, ended.train = send.first_ms, ended.train and send.train
            self._keep(journey, ended)
        return send if send is not None and send.phase == PLANNED else None

    def note_response(self, journey: str, at_ms: int, *, early: Send) -> None:
        """Take a response; `early` is what to remember where nothing is known of the journey."""
        send = self._sends.get(journey)
        if send is None:
            early.first_ms = at_ms
            self._keep(journey, early)
        elif send.phase in (PLANNED, EARLY, ENDED):
            before = self._minute(send)
            send.first_ms = min(send.first_ms or at_ms, at_ms)
            self._sends.put(journey, send)
            if self._minute(send) != before:
                self._time(journey, send)
        elif send.phase == OPEN and self._in_window(send, at_ms):
            self._judge(journey, send, at_ms=at_ms)
        elif send.phase == CLOSED and not send.answered and self._in_window(send, at_ms):
            send.answered = True
            self._sends.put(journey, send)
            if send.train and send.sent_slot != NO_SLOT:
                lesson = Lesson(journey, send, responded=True, at_ms=at_ms, corrects=True)
                self.lessons.append(lesson)

    def deny(self, journey: str, *, early: Send | None) -> None:
        """Let a journey teach nothing; `early` is what to remember where nothing is known of it."""
        send = self._sends.get(journey)
        if send is not None:
            send.train = False
            self._sends.put(journey, send)
        elif early is not None:
            self._keep(journey, early)

    def forget(self, subject: str) -> None:
        """Drop everything about a person, of whom earlier changes may tell more."""
        gone = [journey for journey, send in self._sends.items() if send.subject == subject]
        for journey in gone:
            self._sends.drop(journey)
        self.erased = True

    def expire(self, clock_ms: int) -> None:
        """Let the time of all that is due by now be over, in the order in which it is due."""
        while self._minutes and self._minutes[0] * MINUTE_MS <= clock_ms:
            minute = heapq.heappop(self._minutes)
            named = dict.fromkeys(self._due.pop(minute))
            due = [
                (self._due_ms(send), journey, send)
                for journey in named
                if (send := self._sends.get(journey)) and self._minute(send) == minute
            ]
            for _, journey, send in sorted(due, key=lambda one: one[:2]):
                if send.phase == OPEN:
                    self._judge(journey, send, at_ms=0)
                else:
                    self._sends.drop(journey)

    def take(self) -> list[Lesson]:
        """The lessons since the last call."""
        lessons, self.lessons = self.lessons, []
        return lessons

    def _judge(self, journey: str, send: Send, *, at_ms: int) -> None:
        """Close as positive by a response at a time, as negative at 0."""
        send.phase, send.answered = CLOSED, at_ms > 0
        self._sends.put(journey, send)
        if send.train and send.sent_slot != NO_SLOT:
            self.lessons.append(Lesson(journey, send, responded=at_ms > 0, at_ms=at_ms))
        self._time(journey, send)

    @staticmethod
    def _in_window(send: Send, at_ms: int) -> bool:
        return send.sent_ms <= at_ms <= send.sent_ms + send.window_ms

    def _keep(self, journey: str, send: Send) -> None:
        self._sends.put(journey, send)
        self._time(journey, send)
        if len(self._sends) > self._rules.journeys_max:
            self._sends.drop(next(iter(self._sends)))
            self.given_up += 1

    def _due_ms(self, send: Send) -> int:
        rules = self._rules
        if send.phase == OPEN:
            return send.sent_ms + send.window_ms
        if send.phase == CLOSED:
            return send.sent_ms + send.window_ms + rules.correct_ms
        return max(send.at_ms, send.first_ms) + rules.wait_ms

    def _minute(self, send: Send) -> int:
        """The first minute that begins after its time: a response in its last one still counts."""
        return self._due_ms(send) // MINUTE_MS + 1

    def _time(self, journey: str, send: Send) -> None:
        minute = self._minute(send)
        if minute not in self._due:
            self._due[minute] = []
            heapq.heappush(self._minutes, minute)
        self._due[minute].append(journey)

    def dump(self) -> list[tuple[str, Send]]:
        """The state, in order; the timers follow from it."""
        return list(self._sends.items())

    def load(self, dumped: Iterable[tuple[str, Send]]) -> None:
        """Take back what `dump` gave."""
        self._due, self._minutes = {}, []
        told = dict(dumped)
        self._sends.fill(told, told.values())
        for journey, send in told.items():
            self._time(journey, send)

    def watch(self) -> None:
        """Note changes from now on."""
        self._sends.watch()
        self.erased = False

    def take_changes(self) -> tuple[list[str], list[str], list[Send]] | None:
        """What changed since the last time; None for nothing."""
        self.erased = False
        return self._sends.take_changes()

    def apply(self, changes: tuple[list[str], list[str], list[Send]]) -> None:
        """Change as `take_changes` told."""
        self._sends.apply(changes)
        for journey, send in zip(*changes[1:], strict=True):
            self._time(journey, send)
