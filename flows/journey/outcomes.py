"""Outcomes: what came of notifications, as rows and as records for learners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from flows.journey.acts import NAMES, bits
from flows.journey.book import Ended
from flows.journey.story import CHANNELS, HOLDOUT, Told, moments_of
from flows.journey.touches import DIRECT, FIRST, LAST, Result, Share, Touch
from schemas.blocks import ORIGIN_HEADER, AcceptedBlock, Origin, OutRecord, Rows, rows_of
from schemas.observed import OBSERVED, OUTCOMES_TOPIC
from schemas.ticket import Header, format_time, hash64
from schemas.topics_catalog import load_topics

_WORDS: Final = {
    "engagement": (
        "opened",
        "opened_by_machine",
        "clicked",
        "clicked_by_machine",
        "cta",
        "replied",
        "unsubscribed",
        "complained",
    ),
    "outcome": (
        "page_viewed",
        "accepted",
        "declined",
        "registered",
        "payment_received",
        "refunded",
        "converted",
    ),
}
OBSERVABLE: Final = bits(f"{stage}.{word}" for stage, words in _WORDS.items() for word in words)
SHARED: Final = bits(
    f"outcome.{word}"
    for word in (
        "accepted",
        "declined",
        "registered",
        "payment_received",
        "refunded",
        "converted",
    )
)
"""Results that are put down to touches; the others are reactions to the message itself."""

TIMED_OUT: Final = "timed_out"
ORDINAL: Final = 40
ORDINAL_OF_TIMERS: Final = 1_000
"""Of the first time-out that a block's last record leads to; the others follow."""

SOURCE: Final = "/airside/journey"
_ABOUT_TIME_OUTS: Final = "behaviour"

COLUMNS: Final = (
    "outcome_id",
    "model",
    "slot",
    "kind",
    "at",
    "journey",
    "notification",
    "subject",
    "campaign",
    "channel",
    "arm",
    "purpose",
    "class",
    "sensitivity",
    "amount_minor",
    "currency",
    "to_journey",
    "to_campaign",
    "to_notification",
    "weight",
    "touches",
    "window_s",
    "expires_at",
    "ver",
)


def result_of(told: Told) -> Result:
    """The result that an event is."""
    return Result(
        at_ms=told.at_ms,
        event=told.event,
        kind=NAMES[told.act].rpartition(".")[2],
        journey=told.journey,
        notification=told.notification,
        campaign=told.campaign,
        channel=told.channel,
        arm=told.arm,
        purpose=told.purpose,
        classes=told.classes,
        sensitivity=told.sensitivity,
        amount_minor=told.amount_minor,
        currency=told.currency,
        expires_day=told.expires_day,
    )


def id_of(event: int) -> str:
    """The id of the outcome that an event is, from the hash of the event's id."""
    return f"{event:016x}"


def direct_share(result: Result) -> Share:
    """A reaction belongs to the message that it is about."""
    touch = Touch(result.at_ms, result.event, result.journey, result.campaign, result.notification)
    return Share(DIRECT, 0, touch, 1.0)


def outcome_rows(
    subject: str, told: Iterable[tuple[Result, Sequence[Share], int]], window_s: int
) -> list[tuple[Any, ...]]:
    """The rows of `outcomes`, in the order of `COLUMNS`."""
    return [
        (
            id_of(result.event),
            share.model,
            share.slot,
            result.kind,
            result.at_ms,
            result.journey,
            result.notification,
            subject,
            result.campaign,
            result.channel,
            result.arm,
            result.purpose,
            result.classes,
            result.sensitivity,
            result.amount_minor,
            result.currency,
            share.touch.journey if share.touch else "",
            share.touch.campaign if share.touch else "",
            share.touch.notification if share.touch else "",
            share.weight,
            touches,
            window_s,
            result.expires_day,
            touches + 1,
        )
        for result, shares, touches in told
        for share in shares
    ]


def as_rows(lines: list[tuple[Any, ...]]) -> Rows:
    """Lines as rows of the table."""
    return rows_of("outcomes", COLUMNS, lines)


def may_publish(classes: str) -> bool:
    """Tell whether the topic of outcomes may carry data of these classes."""
    return set(classes.split(",")) <= set(load_topics()[OUTCOMES_TOPIC].classes)


def observed(
    told: Told, block: AcceptedBlock, shares: Sequence[Share], touches: int, window_s: int
) -> OutRecord:
    """The record that tells of an outcome; its origin is the event that it is."""
    by_model = {share.model: share.touch for share in shares}
    body = {
        "outcome_id": id_of(told.event),
        "kind": NAMES[told.act].rpartition(".")[2],
        "at": _instant(told.at_ms),
        "journey_id": told.journey,
        "notification_id": told.notification,
        "subject": told.subject,
        "campaign": told.campaign,
        "tenant": told.tenant,
        "channel": told.channel,
        "arm": told.arm,
        "amount_minor": told.amount_minor if told.currency else None,
        "currency": told.currency,
        "touches": touches,
        "window_s": window_s if LAST in by_model else None,
        "last_touch": _touched_by(by_model.get(LAST)),
        "first_touch": _touched_by(by_model.get(FIRST)),
    }
    place = told.place
    origin = Origin(block.topic, block.partitions[place], block.offsets[place], ORDINAL)
    categories = ",".join(block.labels[place].categories)
    label = (told.purpose, told.classes, categories)
    return _record(body, label, at_ms=told.at_ms, cause=block.ids[place], origin=origin)


def timed_out(ended: Ended, block: AcceptedBlock, ordinal: int) -> OutRecord:
    """The record that tells that nothing came of a journey; its origin ends the block."""
    story = ended.story
    channels = [moment.channel for moment in moments_of(story) if moment.channel]
    event = hash64(f"{ended.journey} {story.n} {TIMED_OUT}".encode())
    at_ms = story.last_ms + ended.patience_ms
    body = {
        "outcome_id": id_of(event),
        "kind": TIMED_OUT,
        "at": _instant(at_ms),
        "journey_id": ended.journey,
        "notification_id": story.notification,
        "subject": story.subject,
        "campaign": story.campaign,
        "tenant": story.tenant,
        "channel": CHANNELS[channels[-1]] if channels else "",
        "arm": story.arm or (HOLDOUT if story.held_out else ""),
        "propensity": story.propensity or None,
        "waited_s": ended.patience_ms // 1_000,
    }
    origin = Origin(block.topic, block.partitions[-1], block.offsets[-1], ordinal)
    label = (story.purpose, story.classes, _ABOUT_TIME_OUTS)
    return _record(body, label, at_ms=at_ms, cause="", origin=origin)


def _touched_by(touch: Touch | None) -> dict[str, str] | None:
    if touch is None:
        return None
    return {
        "journey_id": touch.journey,
        "notification_id": touch.notification,
        "campaign": touch.campaign,
        "at": _instant(touch.at_ms),
    }


def _instant(at_ms: int) -> str:
    return format_time(at_ms).decode()


def _record(
    body: dict[str, Any], label: tuple[str, str, str], *, at_ms: int, cause: str, origin: Origin
) -> OutRecord:
    subject = body["subject"]
    purpose, classes, categories = label
    headers: list[Header] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"out-{body['outcome_id']}".encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_type", OBSERVED.encode()),
        ("ce_time", format_time(at_ms)),
        ("content-type", b"application/json"),
        ("ce_datapurpose", purpose.encode()),
        ("ce_dataclassification", classes.encode()),
        ("ce_correlationid", body["journey_id"].encode()),
        ("ce_subject", subject.encode()),
    ]
    if categories:
        headers.append(("ce_datacategory", categories.encode()))
    if cause:
        headers.append(("ce_causationid", cause.encode()))
    headers.append((ORIGIN_HEADER, str(origin).encode()))
    named = {name: value for name, value in body.items() if value not in (None, "")}
    return OutRecord(OUTCOMES_TOPIC, subject.encode(), orjson.dumps(named), headers, origin)
