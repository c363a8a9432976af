"""Requests, sendings and responses for tests of delivery times; invented people only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import orjson

from flows.timing.flow import make_step
from flows.timing.lane import TimingLane
from schemas.blocks import OutRecord, RawBlock
from schemas.ticket import format_time
from tests.messages import (
    DELIVERY,
    ENGAGEMENT,
    NOW_MS,
    PERSON,
    Message,
    block,
    delivered,
    settings,
    ticket_headers,
)

REQUESTS: Final = "ntf.requests.v1"
MINUTE_MS: Final = 60_000


def person(number: int) -> str:
    return f"usr_{number:016x}"


def lane(**more: Any) -> TimingLane:
    """A lane under default settings, but for these of timing."""
    follower = make_step(settings(timing=more)).make()
    assert isinstance(follower, TimingLane)
    return follower


def instant(at_ms: int) -> str:
    return format_time(at_ms).decode()


def request(
    number: int = 1,
    *,
    at_ms: int = NOW_MS,
    subject: str = PERSON,
    purpose: str = "order_update",
    campaign: str = "spring",
    priority: str = "normal",
    channels: Sequence[str] = ("email",),
    kind: str = "ntf.request.created.v1",
    **fields: Any,
) -> Message:
    """A request for a delivery to one person."""
    own = {"recipient": subject, "idempotency_key": f"idem-{number:08d}"}
    body = {
        "journey_id": f"jrn-{number:012d}",
        "notification_id": f"ntf-{number:012d}",
        "campaign": campaign,
        "tenant": "harbour",
        "template": "t1",
        "channels_allowed": list(channels),
        "priority": priority,
        **(own if kind == "ntf.request.created.v1" else {}),
        **fields,
    }
    headers = ticket_headers(
        number,
        at_ms=at_ms,
        id=f"req-{kind[4:7]}-{number:010d}",
        type=kind,
        datapurpose=purpose,
        subject=subject,
    )
    return Message(headers, orjson.dumps(body), subject.encode(), REQUESTS, at_ms)


def sent(
    number: int = 1, *, at_ms: int, subject: str = PERSON, word: str = "sent", **more: Any
) -> Message:
    """What a sender reports of a journey's message."""
    message = delivered(
        number,
        at_ms=at_ms,
        id=f"evt-{word}-{number:08d}",
        type=f"ntf.delivery.{word}.v1",
        subject=subject,
        correlationid=f"jrn-{number:012d}",
    )
    body = {**orjson.loads(message.value or b""), "message_id": f"msg-{number}", **more}
    return message._replace(value=orjson.dumps(body), topic=DELIVERY, recorded_ms=at_ms)


def reacted(
    number: int = 1,
    *,
    at_ms: int,
    subject: str = PERSON,
    word: str = "opened",
    purpose: str = "engagement_tracking",
    classes: str = "GDPR,PII",
    **more: Any,
) -> Message:
    """What a person does with a journey's message."""
    message = delivered(
        number,
        at_ms=at_ms,
        id=f"evt-{word}-{number:08d}",
        type=f"ntf.engagement.{word}.v1",
        subject=subject,
        correlationid=f"jrn-{number:012d}",
        datapurpose=purpose,
        dataclassification=classes,
    )
    fields = {"machine": False} if word == "opened" else {}
    body = {**orjson.loads(message.value or b""), **fields, **more}
    return message._replace(value=orjson.dumps(body), topic=ENGAGEMENT, recorded_ms=at_ms)


def notice(topic: str, key: str, value: bytes | None) -> Message:
    """A message that Airside speaks to itself."""
    return Message([], value, key.encode(), topic)


class Tape:
    """Runs of messages as blocks of one lane, offsets going on by themselves."""

    def __init__(self) -> None:
        self._ends: Counter[str] = Counter()

    def block(self, *messages: Message, received_ms: int | None = None) -> RawBlock:
        topic = messages[0].topic
        raw = block(messages, first=self._ends[topic])
        self._ends[topic] += len(messages)
        raw.received_ms = received_ms or max(message.recorded_ms for message in messages)
        return raw


def decisions(records: Sequence[OutRecord]) -> list[dict[str, Any]]:
    """The bodies of decisions among records."""
    return [orjson.loads(r.value or b"") for r in records if r.topic == "ntf.decisions.v1"]
