"""Messages for tests: a valid one, changed where a test wants it changed; invented people only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from flows.ingest import make_checker, make_gate, read_policy
from flows.settings import Settings, read_settings
from flows.steps.check import BlockChecker
from flows.steps.gate import LaneGate
from schemas.blocks import CheckedBlock, Outputs, RawBlock
from schemas.policy import Policy
from schemas.ticket import Header, format_time

NOW_MS: Final = 1_800_000_000_000
KEY: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PERSON: Final = "usr_9f2c1b7ae04d3c58"
DELIVERY: Final = "ntf.delivery.v1"
PROFILES: Final = "ntf.profiles.v1"
ENGAGEMENT: Final = "ntf.engagement.v1"
HOUR_MS: Final = 3_600_000
CANARY: Final = "canary7f3a91"
SOILED: Final = CANARY.encode()
FULL: Final[dict[str, Any]] = {
    "datapolicy": "1",
    "datahops": "in.c1.0",
    "causationid": "evt-unknown-1",
    "dataregulation": "gdpr",
    "dataschema": "/schemas/1",
    "recordedtime": format_time(NOW_MS).decode(),
    "expirytime": format_time(NOW_MS + HOUR_MS).decode(),
    "ticketmac": "AAAAAAAAAAAAAAAA",
}


class Message(NamedTuple):
    """One Kafka message, before it has a place."""

    headers: list[Header]
    value: bytes | None
    key: bytes | None
    topic: str = DELIVERY
    recorded_ms: int = NOW_MS


def settings(**more: Any) -> Settings:
    """Settings that open nothing."""
    base = {"kafka": {"bootstrap_servers": "-"}, "clickhouse": {"url": "-"}}
    return read_settings({**base, "quarantine_key": KEY, **more})


def policy() -> Policy:
    return read_policy(settings())


def ticket_headers(number: int = 1, *, at_ms: int = NOW_MS, **more: str | None) -> list[Header]:
    """The headers of a valid ticket; `more` sets attributes, None leaves one out."""
    words: dict[str, str | None] = {
        "specversion": "1.0",
        "id": f"evt-{number:012d}",
        "source": "/sender/postwing",
        "type": "ntf.delivery.delivered.v1",
        "time": format_time(at_ms).decode(),
        "datapurpose": "transactional_notice",
        "dataclassification": "GDPR,PII",
        "datacategory": "behaviour",
        "correlationid": f"jrn-{number:012d}",
        "subject": PERSON,
        **more,
    }
    named = [(f"ce_{name}", word.encode()) for name, word in words.items() if word is not None]
    return [("content-type", b"application/json"), *named]


def delivered(number: int = 1, *, at_ms: int = NOW_MS, **more: str | None) -> Message:
    """A delivery that is accepted as it stands."""
    body = {
        "journey_id": more.get("correlationid") or f"jrn-{number:012d}",
        "notification_id": f"ntf-{number:012d}",
        "campaign": "spring",
        "tenant": "harbour",
        "channel": "email",
        "provider": "postwing",
    }
    subject = more.get("subject", PERSON)
    headers = ticket_headers(number, at_ms=at_ms, **more)
    key = subject or more.get("id") or f"evt-{number:012d}"
    return Message(headers, orjson.dumps(body), key.encode())


def plain_word(message: Message) -> Message:
    """The same message with the short form of one header."""
    headers = [("purpose" if n == "ce_datapurpose" else n, v) for n, v in message.headers]
    return message._replace(headers=headers)


def profile(
    number: int = 1, *, subject: str = PERSON, consent: Sequence[str] = (), zone: str = "Asia/Tokyo"
) -> Message:
    """A profile with some consents."""
    body = {"subject": subject, "zone": zone, "consent": dict.fromkeys(consent, True)}
    headers = ticket_headers(
        number,
        id=f"prf-{number:012d}",
        type="ntf.profile.updated.v1",
        datapurpose="account_update",
        datacategory="contact",
        subject=subject,
    )
    return Message(headers, orjson.dumps(body), subject.encode(), PROFILES)


def payment(number: int = 1, *, amount_minor: int = 1_250, **more: Any) -> Message:
    """A payment in euros that is accepted as it stands."""
    kind = {"type": "ntf.outcome.payment_received.v1", "datapurpose": "payment"}
    message = delivered(number, **{**kind, **more})
    body = {**orjson.loads(message.value or b""), "amount_minor": amount_minor, "currency": "EUR"}
    del body["provider"]
    return message._replace(value=orjson.dumps(body), topic=ENGAGEMENT)


def with_header(message: Message, name: str, value: bytes | None) -> Message:
    """The same message with one header set, or added behind the others."""
    headers = [(n, value if n == name else v) for n, v in message.headers]
    return message._replace(headers=headers if name in dict(headers) else [*headers, (name, value)])


def with_body(message: Message, **changes: Any) -> Message:
    """The same message with some fields of its body set."""
    return message._replace(value=orjson.dumps({**orjson.loads(message.value or b""), **changes}))


def full(number: int = 1) -> Message:
    """A delivery with every ticket attribute."""
    message = delivered(number, **FULL)
    trace = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    return with_header(with_header(message, "traceparent", trace), "tracestate", b"a=b")


def soiled_all_over(number: int = 1) -> Message:
    """A message that is right, with a canary wherever one fits."""
    message = with_body(
        full(number), campaign=CANARY, tenant=CANARY, provider=CANARY, message_id=CANARY, arm=CANARY
    )
    for name in ("ce_subject", "ce_correlationid", "ce_causationid"):
        message = with_header(message, name, SOILED)
    message = with_body(message, journey_id=CANARY, subject=CANARY)
    return with_header(message, "x-note", SOILED)._replace(key=SOILED)


def rows_of(outputs: Outputs, table: str) -> list[dict[str, Any]]:
    """The rows that a block leads to in one table, each as a dict of plain values."""
    found: list[dict[str, Any]] = []
    for rows in outputs.rows:
        if rows.table == table:
            columns = [getattr(c, "tolist", lambda c=c: c)() for c in rows.columns.values()]
            found += [
                dict(zip(rows.columns, line, strict=True)) for line in zip(*columns, strict=True)
            ]
    return found


def block(messages: Sequence[Message], *, first: int = 0, partition: int = 0) -> RawBlock:
    """Messages of one topic as a block of one partition, from an offset on."""
    return RawBlock(
        lane=0,
        topic=messages[0].topic,
        received_ms=NOW_MS,
        partitions=[partition] * len(messages),
        offsets=list(range(first, first + len(messages))),
        timestamps=[message.recorded_ms for message in messages],
        keys=[message.key for message in messages],
        headers=[message.headers for message in messages],
        values=[message.value for message in messages],
    )


class Bench:
    """A checker and a gate, fed with messages; offsets go on by themselves."""

    def __init__(self, **more: Any) -> None:
        self.settings = settings(**more)
        self.policy = read_policy(self.settings)
        self.checker: BlockChecker = make_checker(self.settings, self.policy)
        self.gate: LaneGate = make_gate(self.settings, self.policy)
        self._next: dict[tuple[str, int], int] = {}

    def check(self, *messages: Message) -> CheckedBlock:
        return self.checker.check(block(messages))

    def pass_(self, *messages: Message, partition: int = 0) -> Outputs:
        place = (messages[0].topic, partition)
        first = self._next.get(place, 0)
        self._next[place] = first + len(messages)
        raw = block(messages, first=first, partition=partition)
        return self.gate.pass_block(self.checker.check(raw))

    def code_of(self, message: Message) -> str:
        """The code of one message alone; empty when it is routed."""
        [(_, code)] = [key for key, count in self.pass_(message).counts.items() if count]
        return code
