"""Follow accepted events into journeys: the lane's follower of the journey flow."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from flows.journey.acts import number_of
from flows.journey.book import Book
from flows.journey.rules import JourneyRules
from flows.journey.story import Told
from flows.steps.accept import PROFILE_TOPIC
from schemas.blocks import AcceptedBlock, Followed
from schemas.errors import PermanentError
from schemas.ticket import hash64

STATE_VERSION: Final = 1
_DAY_MS: Final = 86_400_000
_MASK: Final = (1 << 64) - 1
_MIX: Final = 0x9E3779B97F4A7C15
_REFUNDED: Final = "ntf.outcome.refunded.v1"
_ASSIGNED: Final = "ntf.orchestration.variant_assigned.v1"
_SUPPRESSED: Final = "ntf.orchestration.suppressed.v1"


class JourneyFollower:
    """One lane's journeys.

    State: everything, as versioned bytes. Time is event time: the block's watermark.
    Delivery: after `load` the same blocks lead to the same rows and records.
    """

    def __init__(self, rules: JourneyRules) -> None:
        self._book = Book(rules)

    def follow(self, block: AcceptedBlock) -> Followed:
        """Take a block's events into their journeys, and let time pass."""
        if block.topic == PROFILE_TOPIC:
            return Followed([], [], [])
        events: dict[str, list[Told]] = {}
        for place, label in enumerate(block.labels):
            act = number_of(label.type, block.bodies[place])
            # What names nobody is about an audience, and its events are in any lane.
            if act is not None and block.subjects[place]:
                told = told_of(block, place, act)
                events.setdefault(block.journeys[place], []).append(told)
        rows = [self._book.fold(events, block.watermark_ms)]
        ended, _journeys = self._book.pass_time(block.watermark_ms)
        rows.append(ended)
        return Followed([], [], [part for part in rows if part.size])

    def dump(self) -> bytes:
        """The state as bytes with a version number."""
        return msgspec.msgpack.encode({"version": STATE_VERSION, "book": self._book.dump()})

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave.

        Errors: PermanentError for a state of another version.
        """
        state = read_state(dumped)
        self._book.load(state["book"])


def read_state(dumped: bytes) -> dict[str, Any]:
    """Decode a state.

    Errors: PermanentError for one that this release cannot read, naming what to do.
    """
    try:
        state = msgspec.msgpack.decode(dumped, type=dict[str, Any])
        found = f"state version {state.get('version')}"
    except msgspec.MsgspecError:
        state, found = {}, "bytes without a version"
    if state.get("version") != STATE_VERSION:
        raise PermanentError(
            do="resume",
            kind="journeys",
            found=found,
            expected=f"version {STATE_VERSION}",
            hint="run the release that wrote it, or start from an empty data folder",
        )
    return state


def told_of(block: AcceptedBlock, place: int, act: int) -> Told:
    """What the event at a place adds to its journey."""
    label, body = block.labels[place], block.bodies[place]
    reason = body.reason if label.type == _SUPPRESSED else None
    hops = block.hops[place]
    return Told(
        at_ms=block.times_ms[place],
        event=(hash64(block.ids[place].encode()) + label.identity * _MIX) & _MASK,
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
        hops=hops.count(">") + 1 if hops else 0,
        expires_day=(block.recorded_ms[place] + label.decision.retention_s * 1_000) // _DAY_MS + 1,
        amount_minor=body.amount_minor or 0,
        currency=body.currency or "",
        refund=label.type == _REFUNDED,
    )
