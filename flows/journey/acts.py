"""Acts: what can happen on a journey, in which stage, and how far it brings the journey.

An act is an event type without its frame (`ntf.`, `.v1`); opens and clicks of machines are acts
of their own. Acts are kept in state by their number, so new ones go to the end of the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple


class Act(NamedTuple):
    """One thing that can happen. `rank` says how far a journey is that has come to it."""

    name: str
    stage: str
    rank: int


_TABLE: Final = """
    creation       10 request.created
    creation       12 request.accepted
    creation       14 request.rejected
    creation       14 request.duplicate
    creation       16 request.audience_resolved
    creation       18 journey.created
    orchestration  20 orchestration.preference_checked
    orchestration  22 orchestration.variant_assigned
    orchestration  23 orchestration.digest_opened
    orchestration  24 orchestration.digest_merged
    orchestration  25 orchestration.channel_selected
    orchestration  26 orchestration.rendered
    orchestration  26 orchestration.render_failed
    orchestration  27 orchestration.delayed
    orchestration  28 orchestration.scheduled
    orchestration  29 orchestration.canceled
    orchestration  29 orchestration.suppressed
    delivery       30 delivery.queued
    delivery       31 delivery.attempted
    delivery       32 delivery.deferred
    delivery       33 delivery.failover
    delivery       34 delivery.sent
    delivery       35 delivery.failed
    delivery       35 delivery.dropped
    delivery       36 delivery.bounced
    delivery       38 delivery.delivered
    analysis       39 engagement.opened_by_machine
    analysis       39 engagement.clicked_by_machine
    analysis       40 engagement.token_invalidated
    analysis       41 engagement.seen
    analysis       42 engagement.dismissed
    analysis       42 engagement.preference_changed
    analysis       43 engagement.unsubscribed
    analysis       43 engagement.complained
    analysis       44 engagement.opened
    analysis       45 engagement.read
    analysis       46 engagement.interacted
    analysis       46 engagement.archived
    analysis       47 engagement.replied
    analysis       48 engagement.clicked
    analysis       50 engagement.cta
    analysis       52 outcome.page_viewed
    analysis       54 outcome.declined
    analysis       56 outcome.accepted
    analysis       58 outcome.registered
    analysis       60 outcome.payment_received
    analysis       62 outcome.converted
    analysis       64 outcome.refunded
    analysis       39 outcome.journey_timed_out
    analysis       66 outcome.journey_completed
"""


def _read_table(text: str) -> tuple[Act, ...]:
    rows = (line.split() for line in text.splitlines() if line.strip())
    return tuple(Act(name, stage, int(rank)) for stage, rank, name in rows)


ACTS: Final[tuple[Act, ...]] = _read_table(_TABLE)
NAMES: Final = tuple(act.name for act in ACTS)
STAGES: Final = tuple(act.stage for act in ACTS)
RANKS: Final = tuple(act.rank for act in ACTS)
NUMBERS: Final = {act.name: number for number, act in enumerate(ACTS)}

BY_FARTHEST: Final = tuple(sorted(range(len(ACTS)), key=lambda n: (-RANKS[n], n)))
"""The numbers of all acts, the one that brings a journey farthest first."""

_MACHINES: Final = {
    "engagement.opened": NUMBERS["engagement.opened_by_machine"],
    "engagement.clicked": NUMBERS["engagement.clicked_by_machine"],
}


def bits(names: Iterable[str]) -> int:
    """A set of acts as one number, a bit for each.

    >>> bits(["request.created", "request.accepted"])
    3
    """
    return sum(1 << NUMBERS[name] for name in names)


def _name_of(event_type: str) -> str:
    return event_type.removeprefix("ntf.").rpartition(".v")[0]


_BY_TYPE: Final[dict[str, int]] = {
    f"ntf.{act.name}.v1": number
    for number, act in enumerate(ACTS)
    if not act.name.endswith("_by_machine")
}


def number_of(event_type: str, body: Any) -> int | None:
    """The number of the act that an event tells of; None for events that are no part of a journey.

    >>> ACTS[number_of("ntf.delivery.sent.v1", None) or 0].name
    'delivery.sent'
    >>> number_of("ntf.profile.updated.v1", None)
    """
    return act_of(event_type, machine=may_be_a_machines(event_type) and body.machine)


def may_be_a_machines(event_type: str) -> bool:
    """Tell whether an event of this type says in its body that a machine did it."""
    return event_type in ("ntf.engagement.opened.v1", "ntf.engagement.clicked.v1")


def act_of(event_type: str, *, machine: bool) -> int | None:
    """The number of an act by its event type, and by whether a machine did it."""
    return _MACHINES[_name_of(event_type)] if machine else _BY_TYPE.get(event_type)
