"""What asks for a delivery: requests to one person, and journeys that nobody has decided yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from schemas.blocks import AcceptedBlock
from schemas.ticket import Label, parse_time

ASKING: Final = frozenset(("ntf.request.created.v1", "ntf.journey.created.v1"))

ENDING: Final = frozenset(
    (
        "ntf.request.rejected.v1",
        "ntf.request.duplicate.v1",
        "ntf.orchestration.suppressed.v1",
        "ntf.orchestration.canceled.v1",
        "ntf.orchestration.render_failed.v1",
    )
)
"""After one of these nothing is sent."""


class Ask(msgspec.Struct, kw_only=True, gc=False):
    """One request for a time.

    Units: milliseconds since 1970 UTC; `latest_ms` is 0 where there is no deadline.
    `place` is where it stands in its block.
    """

    place: int
    event: str
    label: Label
    journey: str
    subject: str
    zone: str
    now_ms: int
    earliest_ms: int
    latest_ms: int
    channels: tuple[str, ...]
    priority: str
    goal: str
    window_ms: int
    body: Any


def read_ask(
    block: AcceptedBlock, place: int, *, zone: str, window_ms: int, window_ms_max: int
) -> Ask | None:
    """Read what an event asks for; None for one that is about nobody.

    The clock of a decision is the moment its block was read, which a repeat of the block has, too;
    a request that was made later than that, by a clock that is ahead, keeps its own time.
    """
    body = block.bodies[place]
    subject = block.subjects[place] or getattr(body, "recipient", None) or body.subject or ""
    if not subject:
        return None
    now_ms = max(block.times_ms[place], block.received_ms)
    goal = getattr(body, "goal", None)
    asked_ms = goal.window_s * 1_000 if goal is not None else window_ms
    return Ask(
        place=place,
        event=block.ids[place],
        label=block.labels[place],
        journey=block.journeys[place],
        subject=subject,
        zone=zone,
        now_ms=now_ms,
        earliest_ms=max(now_ms, _ms_of(body.send_after)),
        latest_ms=_ms_of(body.expires_at),
        channels=body.channels_allowed,
        priority=body.priority,
        goal=goal.metric if goal is not None else "",
        window_ms=min(max(asked_ms, 1_000), window_ms_max),
        body=body,
    )


def _ms_of(text: str | None) -> int:
    """An instant of a body; 0 for none, and for one that is no day of the calendar."""
    return (parse_time(text.encode()) or 0) if text else 0


def at_once(ask: Ask, *, priorities: frozenset[str], purposes: frozenset[str]) -> str:
    """Why a request is not to wait; empty when it may."""
    if ask.priority in priorities:
        return "priority"
    if ask.label.purpose in purposes:
        return "purpose"
    return "" if ask.zone else "zone_unknown"


def responses_of(
    goal: str, goals: Mapping[str, frozenset[str]], usual: frozenset[str]
) -> frozenset[str]:
    """The event types that answer a message with this goal."""
    return goals.get(goal, usual)
