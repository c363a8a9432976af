"""Follow accepted events into journeys: the lane's follower of the journey flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from flows.journey.acts import number_of
from flows.journey.book import Book
from flows.journey.diary import Diary
from flows.journey.outcomes import (
    OBSERVABLE,
    ORDINAL_OF_TIMERS,
    SHARED,
    as_rows,
    direct_share,
    may_publish,
    observed,
    outcome_rows,
    result_of,
    timed_out,
)
from flows.journey.rules import JourneyRules
from flows.journey.story import Told, hash_of
from flows.journey.touches import People, Result, Share, Touch, touch_of
from flows.process.judge import Rules
from flows.process.tell import exception_records, exception_rows
from flows.process.watch import Watch
from flows.steps.accept import PROFILE_TOPIC
from flows.steps.keep import Kept, OpenJournal
from schemas.blocks import AcceptedBlock, Followed, OutRecord, Rows
from schemas.errors import PermanentError

STATE_VERSION: Final = 2
VERSIONS_READ: Final = (1, STATE_VERSION)
"""Version 2 may have what it keeps in a journal."""

ROUTED: Final = "ntf.routed."
_DAY_MS: Final = 86_400_000
_REFUNDED: Final = "ntf.outcome.refunded.v1"
_ASSIGNED: Final = "ntf.orchestration.variant_assigned.v1"
_SUPPRESSED: Final = "ntf.orchestration.suppressed.v1"


class JourneyFollower:
    """One lane's journeys.

    State: everything, as versioned bytes or in a journal. Time is event time: the watermark.
    Delivery: after `load` the same blocks lead to the same rows and records.
    """

    def __init__(self, rules: JourneyRules, process: Rules) -> None:
        self._book = Book(rules)
        self._process = process.name
        self._watch = Watch(process, forget_ms=rules.forget_ms)
        self._people = People(rules)
        self._window_s = rules.window_ms // 1_000
        self._kept = Kept(Diary(self._book, self._people, self._watch))

    def keep_in(self, journals: OpenJournal | None) -> None:
        """Keep journeys in a journal; to be said before `load` and the first block."""
        self._kept.keep_in(journals)

    def follow(self, block: AcceptedBlock) -> Followed:
        """Take a block's events into their journeys, and let time pass."""
        if not self._kept.is_kept:
            self._kept.keep_as(f"journeys-{block.lane:03d}")
        if block.topic == PROFILE_TOPIC:
            return Followed([], [], [])
        events: dict[str, list[Told]] = {}
        for place, label in enumerate(block.labels):
            act = number_of(label.type, block.bodies[place])
            # What names nobody is about an audience, and its events are in any lane.
            if act is not None and block.subjects[place]:
                told = told_of(block, place, act)
                events.setdefault(block.journeys[place], []).append(told)
        changed, new = self._book.fold(events, block.watermark_ms)
        outcomes, records = self._take_outcomes(block, new)
        self._watch.note(new)
        # Before the book forgets what is due: a watermark may come far in one block.
        exceptions = self._watch.pass_time(block.watermark_ms, self._book.story_of)
        late, ended = self._book.pass_time(block.watermark_ms)
        exceptions += self._watch.end(ended)
        self._people.pass_time(block.watermark_ms)
        silent = [one for one in ended if may_publish(one.story.classes)]
        records += [
            timed_out(one, block, ORDINAL_OF_TIMERS + number) for number, one in enumerate(silent)
        ]
        records += exception_records(self._process, exceptions, block)
        broken = exception_rows(self._process, exceptions)
        rows = [part for part in (changed, late, outcomes, broken) if part.size]
        return Followed(records, [], rows)

    def _take_outcomes(self, block: AcceptedBlock, new: list[Told]) -> tuple[Rows, list[OutRecord]]:
        """Put results down to touches, and tell of them in the order of the block."""
        shares: dict[int, tuple[Sequence[Share], int]] = {}
        lines: list[tuple[Any, ...]] = []
        people: dict[str, tuple[list[Touch], list[Result]]] = {}
        for told in new:
            touch = touch_of(told)
            is_shared = SHARED >> told.act & 1
            if touch is not None or is_shared:
                touches, results = people.setdefault(told.subject, ([], []))
                touches += [touch] if touch is not None else []
                results += [result_of(told)] if is_shared else []
            if OBSERVABLE >> told.act & 1 and not is_shared:
                direct = [direct_share(result_of(told))]
                shares[told.event] = (direct, 0)
                lines += outcome_rows(told.subject, [(result_of(told), direct, 0)], 0)
        for subject, (touches, results) in people.items():
            found = self._people.take(subject, touches, results, block.watermark_ms)
            lines += outcome_rows(subject, found, self._window_s)
            shares |= {result.event: (parts, count) for result, parts, count in found}
        told_of = sorted(
            (told for told in new if told.event in shares), key=lambda told: told.place
        )
        records = [
            observed(told, block, *shares[told.event], self._window_s)
            for told in told_of
            if OBSERVABLE >> told.act & 1 and may_publish(told.classes)
        ]
        return as_rows(lines), records

    def dump(self) -> bytes:
        """The state as bytes with a version number; what is in a journal is durable then."""
        return msgspec.msgpack.encode({"version": STATE_VERSION, "kept": self._kept.dump()})

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave, in this release or an earlier one.

        Errors: PermanentError for a state of another version.
        """
        state = read_state(dumped)
        self._kept.load(state if state["version"] == 1 else state["kept"])


def read_state(dumped: bytes) -> dict[str, Any]:
    """Decode a state.

    Errors: PermanentError for one that this release cannot read, naming what to do.
    """
    try:
        state = msgspec.msgpack.decode(dumped, type=dict[str, Any])
        found = f"state version {state.get('version')}"
    except msgspec.MsgspecError:
        state, found = {}, "bytes without a version"
    if state.get("version") not in VERSIONS_READ:
        raise PermanentError(
            do="resume",
            kind="journeys",
            found=found,
            expected="version " + " or ".join(map(str, VERSIONS_READ)),
            hint="run the release that wrote it, or start from an empty data folder",
        )
    return state


def told_of(block: AcceptedBlock, place: int, act: int) -> Told:
    """What the event at a place adds to its journey."""
    label, body = block.labels[place], block.bodies[place]
    reason = body.reason if label.type == _SUPPRESSED else None
    hops = block.hops[place]
    # The gate that routed an event told of itself; a journey has the hops that came in.
    routed = block.topic.startswith(ROUTED)
    return Told(
        place=place,
        journey=block.journeys[place],
        at_ms=block.times_ms[place],
        event=hash_of(block.ids[place], label.identity),
        act=act,
        channel=body.channel or "",
        subject=block.subjects[place],
        notification=body.notification_id or "",
        campaign=body.campaign or "",
        tenant=body.tenant or "",
        arm=body.arm or "",
        purpose=label.purpose,
        classes=label.class_text,
        sensitivity=label.decision.rank,
        propensity=body.propensity if label.type == _ASSIGNED else 0.0,
        held_out=reason == "holdout",
        hops=hops.count(">") + 1 - routed if hops else 0,
        expires_day=(block.recorded_ms[place] + label.decision.retention_s * 1_000) // _DAY_MS + 1,
        amount_minor=body.amount_minor or 0,
        currency=body.currency or "",
        refund=label.type == _REFUNDED,
    )
