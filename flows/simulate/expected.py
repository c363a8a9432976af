"""The truth of journeys: what has to be told of each, from the world's own events.

Plain arithmetic over all events of a journey at once, by the documented definitions; nothing here
calls the steps that it judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec

from flows.simulate.events import Event

_STAGE_OF: Final = {
    "request": "creation",
    "journey": "creation",
    "orchestration": "orchestration",
    "delivery": "delivery",
    "engagement": "analysis",
    "outcome": "analysis",
}
_STAGES: Final = ("creation", "orchestration", "delivery", "analysis")
_COMPLETED: Final = frozenset(
    f"outcome.{word}"
    for word in ("accepted", "declined", "registered", "payment_received", "converted")
)
_CONVERTED: Final = frozenset(
    ("outcome.registered", "outcome.payment_received", "outcome.converted")
)
_SUPPRESSED: Final = frozenset(
    ("orchestration.suppressed", "orchestration.canceled", "request.duplicate")
)
_REFUSED: Final = frozenset(("request.rejected", "orchestration.render_failed"))
_GIVEN_UP: Final = frozenset(("delivery.failed", "delivery.bounced", "delivery.dropped"))


class Happening(msgspec.Struct, frozen=True, gc=False):
    """One event on a journey. Units: milliseconds since 1970 UTC; minor units of the currency."""

    at: int
    act: str
    journey: str
    source: str
    id: str
    subject: str
    notification: str
    campaign: str
    tenant: str
    channel: str
    arm: str
    purpose: str
    classes: str
    sensitivity: int
    propensity: float
    held_out: bool
    hops: int
    amount_minor: int
    currency: str


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What the table of journeys has to say about one of them.

    Shapes: `told` are pairs of time and act, sorted.
    """

    subject: str
    notification: str
    campaign: str
    tenant: str
    channel: str
    arm: str
    purpose: str
    classes: str
    sensitivity: int
    stage: str
    state: str
    started_at: int
    last_at: int
    n: int
    told: tuple[tuple[int, str], ...]
    hops: int
    propensity: float
    amount_minor: int
    refunded_minor: int
    currency: str
    opened_human: bool
    opened_machine: bool
    clicked: bool
    converted: bool


def happening_of(event: Event, hops: int) -> Happening | None:
    """What an accepted event says about its journey; None where there is none of one person.

    A profile has none, and an event without a subject is about an audience.
    """
    label, body = event.label, event.body
    if label.type.startswith("ntf.profile.") or not event.subject:
        return None
    act = label.type[len("ntf.") : -len(".v1")]
    if body.get("machine") and act in ("engagement.opened", "engagement.clicked"):
        act += "_by_machine"
    return Happening(
        at=event.time_ms,
        act=act,
        journey=event.journey,
        source=label.source,
        id=event.id,
        subject=event.subject,
        notification=body["notification_id"],
        campaign=body["campaign"],
        tenant=body["tenant"],
        channel=body.get("channel") or "",
        arm=body.get("arm") or "",
        purpose=label.purpose,
        classes=label.classes,
        sensitivity=label.rank,
        propensity=body.get("propensity", 0.0),
        held_out=act == "orchestration.suppressed" and body.get("reason") == "holdout",
        hops=hops,
        amount_minor=body.get("amount_minor") or 0,
        currency=body.get("currency") or "",
    )


def expect(found: Iterable[Happening]) -> Expected:
    """What has to be told of a journey that had these events, each of them once."""
    events = sorted(found, key=lambda one: (one.at, one.act, one.id))
    acts = {one.act for one in events}
    money = [one for one in events if one.currency]
    currency = money[0].currency if money else ""
    paid = [one for one in money if one.currency == currency]
    odds = [one.propensity for one in events if one.propensity]
    channels = [one.channel for one in events if one.channel]
    classes = {name for one in events for name in one.classes.split(",")}
    stages = {_STAGE_OF[one.act.partition(".")[0]] for one in events}
    arm = _name(one.arm for one in events)
    return Expected(
        subject=_name(one.subject for one in events),
        notification=_name(one.notification for one in events),
        campaign=_name(one.campaign for one in events),
        tenant=_name(one.tenant for one in events),
        channel=channels[-1] if channels else "",
        arm=arm or ("holdout" if any(one.held_out for one in events) else ""),
        purpose=events[0].purpose,
        classes=",".join(sorted(classes)),
        sensitivity=max(one.sensitivity for one in events),
        stage=max(stages, key=_STAGES.index),
        state=_state(events, acts),
        started_at=events[0].at,
        last_at=events[-1].at,
        n=len(events),
        told=tuple((one.at, one.act) for one in events),
        hops=max(one.hops for one in events),
        propensity=min(odds, default=0.0),
        amount_minor=sum(one.amount_minor for one in paid if one.act != "outcome.refunded"),
        refunded_minor=sum(one.amount_minor for one in paid if one.act == "outcome.refunded"),
        currency=currency,
        opened_human="engagement.opened" in acts,
        opened_machine="engagement.opened_by_machine" in acts,
        clicked="engagement.clicked" in acts,
        converted=bool(acts & _CONVERTED),
    )


def _name(words: Iterable[str]) -> str:
    return min((word for word in words if word), default="")


def _state(events: list[Happening], acts: set[str]) -> str:
    if acts & _COMPLETED:
        return "completed"
    if acts & _SUPPRESSED:
        return "suppressed"
    if acts & _REFUSED:
        return "failed"
    reached = any(one.act.startswith(("engagement.", "outcome.")) for one in events)
    if not reached and "delivery.delivered" not in acts:
        turns = [one.act for one in events if one.act.startswith("delivery.")]
        if turns and turns[-1] in _GIVEN_UP:
            return "failed"
    return "open"


_DIRECT: Final = frozenset(
    (
        *(
            f"engagement.{word}"
            for word in (
                "opened",
                "opened_by_machine",
                "clicked",
                "clicked_by_machine",
                "cta",
                "replied",
                "unsubscribed",
                "complained",
            )
        ),
        "outcome.page_viewed",
    )
)
_TOUCHES: Final = frozenset(
    f"engagement.{word}" for word in ("opened", "clicked", "cta", "replied")
)
_SHARED: Final = frozenset(
    f"outcome.{word}"
    for word in ("accepted", "declined", "registered", "payment_received", "refunded", "converted")
)

OBSERVED_ACTS: Final = frozenset(act.removesuffix("_by_machine") for act in (*_DIRECT, *_SHARED))
"""Acts that learners are told of, as they stand in event types."""

OutcomeLine = tuple[str, int, str, str, int, str, str, str, str, float, int]
"""Kind, time, journey, campaign, amount, currency, model, journey and campaign that it is put
down to, weight, touches."""


def expect_outcomes(found: Iterable[Happening], window_ms: int) -> Counter[OutcomeLine]:
    """The rows that tell of one person's outcomes: happenings of all journeys of the person."""
    events = sorted(found, key=lambda one: one.at)
    lines: Counter[OutcomeLine] = Counter()
    for one in events:
        kind = one.act.partition(".")[2]
        about = (kind, one.at, one.journey, one.campaign, one.amount_minor, one.currency)
        if one.act in _DIRECT:
            lines[*about, "direct", one.journey, one.campaign, 1.0, 0] += 1
        if one.act not in _SHARED:
            continue
        near = [
            touch
            for touch in events
            if touch.act in _TOUCHES and one.at - window_ms <= touch.at <= one.at
        ]
        last = (near[-1].journey, near[-1].campaign) if near else ("", "")
        first = (near[0].journey, near[0].campaign) if near else ("", "")
        each = {touch.journey: touch.campaign for touch in near} or {"": ""}
        lines[*about, "last_touch", *last, 1.0, len(near)] += 1
        lines[*about, "first_touch", *first, 1.0, len(near)] += 1
        for journey, campaign in each.items():
            lines[*about, "linear", journey, campaign, 1.0 / len(each), len(near)] += 1
    return lines


def outcome_told(row: dict[str, Any]) -> OutcomeLine:
    """What a row of `outcomes` says, in the form of `expect_outcomes`."""
    names = ("kind", "at", "journey", "campaign", "amount_minor", "currency", "model")
    about = tuple(row[name] for name in (*names, "to_journey", "to_campaign", "weight", "touches"))
    return cast("OutcomeLine", about)


def row_told(row: dict[str, Any]) -> Expected:
    """What a row of `journeys` says, in the form of `expect`.

    Shapes: times as integers; `class` and `at`, `acts` as the columns are named.
    """
    names = [name for name in Expected.__struct_fields__ if name not in ("classes", "told")]
    fields = {name: row[name] for name in names}
    told = tuple(sorted(zip(row["at"], row["acts"], strict=True)))
    return Expected(**fields, classes=row["class"], told=told)
