"""Rows of decisions, and of what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flows.timing.calendar import DAY_MS, SLOTS
from flows.timing.decide import Draw
from flows.timing.feedback import NO_SLOT, Lesson
from flows.timing.record import decision_id
from schemas.blocks import AcceptedBlock, Rows

ALTERNATIVES_MAX: Final = 8
NO_CHOSEN_SLOT: Final = 255


def expiry_of(draw: Draw, recorded_ms: int) -> int:
    """The day after which the rows of a decision may go: that of its request. Units: since 1970."""
    return (recorded_ms + draw.ask.label.decision.retention_s * 1_000) // DAY_MS + 1


def decision_rows(draws: Sequence[Draw], block: AcceptedBlock, *, policy: int) -> Rows:
    """One row for each decision.

    Delivery: safe to repeat; the sort key has attributes of the request only.
    """
    places = [draw.ask.place for draw in draws]
    columns: dict[str, Any] = {
        "decision_id": [decision_id(draw) for draw in draws],
        "event_id": [draw.ask.event for draw in draws],
        "requested_at": [block.times_ms[place] for place in places],
        "journey": [draw.ask.journey for draw in draws],
        "subject": [draw.ask.subject for draw in draws],
        "campaign": [draw.ask.body.campaign for draw in draws],
        "channel": [draw.ask.channels[0] if len(draw.ask.channels) == 1 else "" for draw in draws],
        "arm": [draw.arm_name for draw in draws],
        "decided_at": [draw.ask.now_ms for draw in draws],
        "chosen_at": [draw.at_ms for draw in draws],
        "chosen_slot": [NO_CHOSEN_SLOT if draw.slot == NO_SLOT else draw.slot for draw in draws],
        "propensity": [draw.propensity for draw in draws],
        "allowed": [_bits(draw) for draw in draws],
        "alternatives": [_alternatives(draw) for draw in draws],
        "score": [draw.expected for draw in draws],
        "reason": [draw.reason for draw in draws],
        "model": [draw.model for draw in draws],
        "model_version": [str(draw.version) for draw in draws],
        "policy": [policy] * len(draws),
        "expires_at": [expiry_of(draw, block.recorded_ms[draw.ask.place]) for draw in draws],
        "ver": [block.offsets[place] for place in places],
    }
    return Rows("decisions", len(draws), columns)


def _bits(draw: Draw) -> bytes:
    """The allowed slots, one bit each, the first slot in the lowest bit of the first byte."""
    if draw.odds is None:
        return bytes(SLOTS // 8)
    return np.packbits(draw.odds > 0, bitorder="little").tobytes()


def _alternatives(draw: Draw) -> list[dict[str, Any]]:
    if draw.odds is None:
        return []
    order = np.argsort(-draw.odds, kind="stable")[:ALTERNATIVES_MAX].tolist()
    return [
        {"slot": slot, "propensity": float(draw.odds[slot])}
        for slot in order
        if draw.odds[slot] > 0
    ]


def outcome_rows(lessons: Sequence[Lesson]) -> Rows | None:
    """One row for each outcome that may be compared; a response replaces a negative."""
    told = [lesson for lesson in lessons if lesson.send.counts]
    if not told:
        return None
    columns: dict[str, Any] = {
        "decision_id": [lesson.send.decision for lesson in told],
        "requested_at": [lesson.send.requested_ms for lesson in told],
        "campaign": [lesson.send.campaign for lesson in told],
        "subject": [lesson.send.subject for lesson in told],
        "responded": [int(lesson.responded) for lesson in told],
        "responded_at": [lesson.at_ms for lesson in told],
        "corrected": [int(lesson.corrects) for lesson in told],
        "expires_at": [lesson.send.expires_day for lesson in told],
        "ver": [2 if lesson.responded else 1 for lesson in told],
    }
    return Rows("decision_outcomes", len(told), columns)
