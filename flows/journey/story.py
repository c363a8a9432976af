"""One journey's story: what is kept of it, how an event is folded in, and the row it makes.

A story is a function of the set of its events: whatever their order of arrival, and whatever came
twice, the same events make the same story.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple

import msgspec

from flows.journey.acts import ACTS, BY_FARTHEST, NAMES, RANKS, bits
from schemas.ticket import hash64

CHANNELS: Final = ("", "email", "sms", "push", "web_push", "in_app", "chat", "voice", "postal")
"""Kept in state by their number: new ones go to the end."""

_CHANNEL_NUMBERS: Final = {name: number for number, name in enumerate(CHANNELS)}
_EVENT: Final = Struct("<qQBB")
_DUE: Final = Struct("<q")
_CURRENCIES_MAX: Final = 8
_MASK: Final = (1 << 64) - 1
_MIX: Final = 0x9E3779B97F4A7C15

_COMPLETED: Final = bits(
    f"outcome.{word}"
    for word in (
        "accepted",
        "declined",
        "registered",
        "payment_received",
        "converted",
        "journey_completed",
    )
)
_SUPPRESSED: Final = bits(
    ("orchestration.suppressed", "orchestration.canceled", "request.duplicate")
)
_REFUSED: Final = bits(("request.rejected", "orchestration.render_failed"))
_DELIVERED: Final = bits(
    (
        "delivery.delivered",
        *(act.name for act in ACTS if act.name.startswith(("engagement.", "outcome."))),
    )
)
_GIVEN_UP: Final = bits(("delivery.failed", "delivery.bounced", "delivery.dropped"))
_DELIVERY: Final = bits(act.name for act in ACTS if act.stage == "delivery")
_OPENED: Final = bits(("engagement.opened",))
_OPENED_BY_MACHINE: Final = bits(("engagement.opened_by_machine",))
_CLICKED: Final = bits(("engagement.clicked",))
_CONVERTED: Final = bits(
    f"outcome.{word}" for word in ("registered", "payment_received", "converted")
)
HOLDOUT: Final = "holdout"


class Moment(NamedTuple):
    """One event on a journey. Ordered by time, then by rank, then by the hash of its id."""

    at_ms: int
    rank: int
    event: int
    act: int
    channel: int


class Money(NamedTuple):
    """What one currency's payments and refunds add up to, and when the first one was."""

    currency: str
    at_ms: int
    event: int
    paid: int
    refunded: int


class Story(msgspec.Struct, array_like=True, gc=False):
    """What is kept of one journey.

    Units: milliseconds since 1970 UTC; `expires_day` in days since 1970; amounts in minor units.
    Shapes: `moments` are packed and sorted, `moments_max` of them at the most: the earliest ones.
    `seen` has a bit for each act that ever happened. `ended` tells that it timed out.
    """

    subject: str = ""
    notification: str = ""
    campaign: str = ""
    tenant: str = ""
    arm: str = ""
    purpose: str = ""
    classes: str = ""
    sensitivity: int = 0
    propensity: float = 0.0
    first_ms: int = 0
    first_event: int = 0
    last_ms: int = 0
    n: int = 0
    hops: int = 0
    expires_day: int = 0
    seen: int = 0
    held_out: bool = False
    ended: bool = False
    money: list[Money] = []
    moments: bytes = b""


class Told(NamedTuple):
    """What an event adds to a story. Shapes: `place` is where it lies in its block."""

    place: int
    journey: str
    at_ms: int
    event: int
    act: int
    channel: str
    subject: str
    notification: str
    campaign: str
    tenant: str
    arm: str
    purpose: str
    classes: str
    sensitivity: int
    propensity: float
    held_out: bool
    hops: int
    expires_day: int
    amount_minor: int
    currency: str
    refund: bool


def hash_of(event_id: str, identity: int) -> int:
    """The hash that an event is known by, from its id and the hash of its source."""
    return (hash64(event_id.encode()) + identity * _MIX) & _MASK


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Story).decode


def pack(story: Story, due_ms: int) -> bytes:
    """A story as bytes, with the time at which it is due in front."""
    return _DUE.pack(due_ms) + _encode(story)


def unpack(packed: bytes) -> Story:
    """The story that `pack` made bytes of."""
    return _decode(memoryview(packed)[_DUE.size :])


def due_of(packed: bytes) -> int:
    """When the packed story is due, without unpacking it."""
    found: int = _DUE.unpack_from(packed)[0]
    return found


def moments_of(story: Story) -> list[Moment]:
    """The events of a story, in order."""
    return [
        Moment(at_ms, RANKS[act], event, act, channel)
        for at_ms, event, act, channel in _EVENT.iter_unpack(story.moments)
    ]


def fold(story: Story, events: list[Told], *, moments_max: int) -> list[Told]:
    """Take events into a story; those that were new to it come back.

    An event that the story holds already changes nothing. Beyond `moments_max` events it holds
    the earliest ones, and what came twice is told by the gate's memory alone.
    """
    moments = moments_of(story)
    known = {moment.event for moment in moments}
    fresh = []
    for told in events:
        if told.event in known:
            continue
        fresh.append(told)
        known.add(told.event)
        moments.append(
            Moment(
                told.at_ms,
                RANKS[told.act],
                told.event,
                told.act,
                _CHANNEL_NUMBERS.get(told.channel, 0),
            )
        )
        _add(story, told)
    if not fresh:
        return fresh
    moments.sort()
    del moments[moments_max:]
    story.moments = b"".join(
        _EVENT.pack(moment.at_ms, moment.event, moment.act, moment.channel) for moment in moments
    )
    return fresh


def _add(story: Story, told: Told) -> None:
    """Everything but the list of moments. Each line is the same whatever the order of events."""
    first = (told.at_ms, told.event)
    if not story.n or first < (story.first_ms, story.first_event):
        story.first_ms, story.first_event = first
        story.purpose = told.purpose
    story.last_ms = max(story.last_ms, told.at_ms)
    story.n += 1
    story.seen |= 1 << told.act
    story.hops = max(story.hops, told.hops)
    story.expires_day = min(story.expires_day or told.expires_day, told.expires_day)
    story.sensitivity = max(story.sensitivity, told.sensitivity)
    story.held_out = story.held_out or told.held_out
    # Events of one journey agree on these; where they do not, the least in the alphabet holds.
    story.subject = _least(story.subject, told.subject)
    story.notification = _least(story.notification, told.notification)
    story.campaign = _least(story.campaign, told.campaign)
    story.tenant = _least(story.tenant, told.tenant)
    story.arm = _least(story.arm, told.arm)
    if told.propensity:
        story.propensity = min(story.propensity or told.propensity, told.propensity)
    if told.classes != story.classes:
        both = set(story.classes.split(",")) | set(told.classes.split(","))
        story.classes = ",".join(sorted(both - {""}))
    if told.currency:
        _pay(story, told)


def _least(one: str, other: str) -> str:
    return min(one, other) if one and other else one or other


def _pay(story: Story, told: Told) -> None:
    paid, refunded = (0, told.amount_minor) if told.refund else (told.amount_minor, 0)
    new = Money(told.currency, told.at_ms, told.event, paid, refunded)
    for place, old in enumerate(story.money):
        if old.currency == new.currency:
            at_ms, event = min((old.at_ms, old.event), (new.at_ms, new.event))
            story.money[place] = Money(
                old.currency, at_ms, event, old.paid + paid, old.refunded + refunded
            )
            return
    story.money = sorted([*story.money, new], key=lambda one: (one.at_ms, one.event))
    del story.money[_CURRENCIES_MAX:]


def state_of(story: Story, moments: list[Moment]) -> str:
    """Where the journey has come to: open, or one of the ways to end.

    Completed wins over suppressed, that over failed, and time-outs are for what has no other end.
    """
    seen = story.seen
    if seen & _COMPLETED:
        return "completed"
    if seen & _SUPPRESSED:
        return "suppressed"
    if seen & _REFUSED:
        return "failed"
    if seen & _GIVEN_UP and not seen & _DELIVERED:
        turns = [moment.act for moment in moments if _DELIVERY >> moment.act & 1]
        if turns and _GIVEN_UP >> turns[-1] & 1:
            return "failed"
    return "timed_out" if story.ended else "open"


def farthest(seen: int) -> int:
    """The act that brought a journey farthest, by number."""
    return next(number for number in BY_FARTHEST if seen >> number & 1)


def row_of(journey: str, story: Story) -> tuple[Any, ...]:
    """The row of `journeys`, in the order of `COLUMNS`."""
    moments = moments_of(story)
    seen = story.seen
    act = ACTS[farthest(seen)]
    money = min(story.money, key=lambda one: (one.at_ms, one.event), default=Money("", 0, 0, 0, 0))
    channels = [moment.channel for moment in moments if moment.channel]
    return (
        journey,
        story.subject,
        story.notification,
        story.campaign,
        story.tenant,
        CHANNELS[channels[-1]] if channels else "",
        story.arm or (HOLDOUT if story.held_out else ""),
        story.purpose,
        story.classes,
        story.sensitivity,
        act.stage,
        act.rank,
        state_of(story, moments),
        story.first_ms,
        story.last_ms,
        story.n,
        [NAMES[moment.act] for moment in moments],
        [moment.at_ms for moment in moments],
        story.hops,
        story.propensity,
        money.paid,
        money.refunded,
        money.currency,
        seen & _OPENED > 0,
        seen & _OPENED_BY_MACHINE > 0,
        seen & _CLICKED > 0,
        seen & _CONVERTED > 0,
        story.expires_day,
        2 * story.n + story.ended,
    )


COLUMNS: Final = (
    "journey",
    "subject",
    "notification",
    "campaign",
    "tenant",
    "channel",
    "arm",
    "purpose",
    "class",
    "sensitivity",
    "stage",
    "rank",
    "state",
    "started_at",
    "last_at",
    "n",
    "acts",
    "at",
    "hops",
    "propensity",
    "amount_minor",
    "refunded_minor",
    "currency",
    "opened_human",
    "opened_machine",
    "clicked",
    "converted",
    "expires_at",
    "ver",
)
