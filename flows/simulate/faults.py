"""Faults: every way in which a message can be wrong, and the code it has to be refused with.

A fault takes an event that would have been accepted and gives the message that is sent instead.
The codes are written here by hand, from the documented list, and come from no code of the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final, NamedTuple

import msgspec
import orjson

from flows.simulate.events import Event, Message, message_of, time_text
from flows.simulate.people import Person
from schemas.codes import CODES
from schemas.ticket import REQUIRED, Header

BODY_BYTES_MAX: Final = 1_048_576
_DAY_MS: Final = 86_400_000
_STREAMS: Final = ("ntf.requests.v1", "ntf.delivery.v1", "ntf.engagement.v1")


class Setting(msgspec.Struct, frozen=True):
    """What faults have to know of the world around them."""

    rng: Random
    node: str
    policy_version: int
    end_ms: int
    people: Mapping[str, Person]
    consents: frozenset[str]


Suits = Callable[[Setting, Event], bool]


class Fault(NamedTuple):
    """One kind of fault; `rare` ones come once in a run, since they are large."""

    kind: str
    code: str
    make: Callable[[Setting, Event], Message]
    suits: Suits
    rare: bool = False


def refuse(message: Message, *, kind: str, code: str) -> Message:
    """Note what has to become of a faulty message."""
    message.fault, message.code, message.door = kind, code, CODES[code].door
    message.event, message.routed = None, ""
    return message


def set_header(message: Message, name: str, value: bytes | None) -> None:
    """Give a header another value, or add it."""
    headers: list[Header] = [pair for pair in message.headers if pair[0] != name]
    message.headers = [*headers, (name, value)]


def _any(_setting: Setting, _event: Event) -> bool:
    return True


def _has_subject(_setting: Setting, event: Event) -> bool:
    return bool(event.subject)


def _names_nobody(_setting: Setting, event: Event) -> bool:
    return not event.subject


def _has_channel(_setting: Setting, event: Event) -> bool:
    return "channel" in event.body


def _is_personal(_setting: Setting, event: Event) -> bool:
    return event.label.rank > 2 and bool(event.label.categories)  # noqa: PLR2004 - PII and up


def _lacks_consent(setting: Setting, event: Event) -> bool:
    """Someone said no to something, and the classes are open to every purpose."""
    person = setting.people.get(event.subject)
    free = event.label.rank < 5  # noqa: PLR2004 - PCI, PHI and SPECIAL are bound to purposes
    return person is not None and free and not setting.consents <= person.granted


def _with_value(value: bytes | None) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        message = message_of(event, 0)
        message.value = value
        return message

    return make


def _with_bytes(change: Callable[[bytes], bytes]) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        message = message_of(event, 0)
        message.value = change(message.value or b"")
        return message

    return make


def _with_field(name: str, value: object) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        return message_of(msgspec.structs.replace(event, body={**event.body, name: value}), 0)

    return make


def _without_field(name: str) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        body = {field: value for field, value in event.body.items() if field != name}
        return message_of(msgspec.structs.replace(event, body=body), 0)

    return make


def _with_header(name: str, value: bytes | None) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        message = message_of(event, 0)
        set_header(message, name, value)
        return message

    return make


def _without_header(name: str) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        message = message_of(event, 0)
        message.headers = [pair for pair in message.headers if pair[0] != name]
        return message

    return make


def _with_key(key: bytes | None) -> Callable[[Setting, Event], Message]:
    def make(_setting: Setting, event: Event) -> Message:
        message = message_of(event, 0)
        message.key = key
        return message

    return make


def _repeated_header(setting: Setting, event: Event) -> Message:
    message = message_of(event, 0)
    message.headers.append(setting.rng.choice(message.headers[:6]))
    return message


def _with_time(name: str, shift_ms: int) -> Callable[[Setting, Event], Message]:
    """A time so far off that it is so on every clock: from the world's end, or the event's."""

    def make(setting: Setting, event: Event) -> Message:
        message = message_of(event, 0)
        at_ms = (setting.end_ms if shift_ms > 0 else event.time_ms) + shift_ms
        set_header(message, name, time_text(at_ms).encode())
        return message

    return make


def _back_at_the_gate(setting: Setting, event: Event) -> Message:
    return _with_header("ce_datahops", f"in.gw1.0>ro.{setting.node}.5".encode())(setting, event)


def _too_large(_setting: Setting, event: Event) -> Message:
    filler = "x" * BODY_BYTES_MAX
    return message_of(msgspec.structs.replace(event, body={**event.body, "note": filler}), 0)


def _nested(depth: int) -> bytes:
    return b'{"note":' + b"[" * depth + b"]" * depth + b"}"


def _future_policy(setting: Setting, event: Event) -> Message:
    version = str(setting.policy_version + 1).encode()
    return _with_header("ce_datapolicy", version)(setting, event)


def _card_data_for_marketing(_setting: Setting, event: Event) -> Message:
    message = message_of(event, 0)
    set_header(message, "ce_dataclassification", b"PCI")
    set_header(message, "ce_datapurpose", b"marketing")
    return message


def _on_the_wrong_topic(setting: Setting, event: Event) -> Message:
    message = message_of(event, 0)
    message.topic = setting.rng.choice([name for name in _STREAMS if name != message.topic])
    return message


def _without_consent(setting: Setting, event: Event) -> Message:
    denied = sorted(setting.consents - setting.people[event.subject].granted)
    message = message_of(msgspec.structs.replace(event, cause=""), 0)
    set_header(message, "ce_datapurpose", setting.rng.choice(denied).encode())
    return message


_LOOP: Final = b"in.gw1.0>va.gw1.2>in.gw1.4"
_LONG: Final = b">".join(b"in.gateway-%03d.%d" % (step, step) for step in range(20))

MALFORMED: Final[tuple[Fault, ...]] = (
    Fault("not_json", "T303", _with_value(b"seen at noon, all well"), _any),
    Fault(
        "not_utf8", "T303", _with_bytes(lambda body: body.replace(b'n":"', b'n":"\xff\xfe')), _any
    ),
    Fault("hidden_not_utf8", "T303", _with_bytes(lambda body: body[:-1] + b',"x":"\xff"}'), _any),
    Fault("truncated", "T303", _with_bytes(lambda body: body[: len(body) // 2]), _any),
    Fault("empty_body", "T303", _with_value(b""), _any),
    Fault("null_body", "T303", _with_value(None), _any),
    Fault("depth_bomb", "T303", _with_value(b"[" * 20_000), _any),
    Fault("buried_bomb", "T303", _with_value(_nested(20_000)), _any),
    Fault("nested", "T303", _with_value(_nested(256)), _any),
    Fault("not_an_object", "T302", _with_value(b'["a","b"]'), _any),
    Fault("wrong_type", "T302", _with_field("campaign", 7), _any),
    Fault("missing_field", "T302", _without_field("tenant"), _any),
    Fault("unknown_choice", "T302", _with_field("channel", "pigeon"), _has_channel),
    Fault("other_journey", "T302", _with_field("journey_id", "jny-elsewhere"), _any),
    Fault("other_subject", "T302", _with_field("subject", "usr_of_someone_else"), _has_subject),
    Fault("key_of_nobody", "T107", _with_key(b"spring_sale"), _names_nobody),
    Fault("null_key", "T107", _with_key(None), _any),
    Fault("wrong_key", "T107", _with_key(b"usr_of_someone_else"), _has_subject),
    *(Fault(f"without_{name}", "T101", _without_header(name), _any) for name in REQUIRED),
    Fault("repeated_header", "T102", _repeated_header, _any),
    Fault("null_header", "T102", _with_header("ce_datapurpose", None), _any),
    Fault("header_not_utf8", "T102", _with_header("ce_source", b"/game/\xff\xfe"), _any),
    Fault("bad_form", "T102", _with_header("ce_correlationid", b"a b c d"), _any),
    Fault("large_ticket", "T103", _with_header("tracestate", b"a=1," * 260), _any),
    Fault("large_headers", "T103", _with_header("x-notes", b"n" * 17_000), _any),
    Fault("large_body", "T103", _too_large, _any, rare=True),
    Fault("bad_id", "T104", _with_header("ce_id", b"no 1"), _any),
    Fault("bad_time", "T105", _with_header("ce_time", b"2026-02-30T25:00:00Z"), _any),
    Fault("zoneless_time", "T105", _with_header("ce_time", b"2026-02-03T04:05:06"), _any),
    Fault("far_future", "T105", _with_time("ce_time", 400 * _DAY_MS), _any),
    Fault("recorded_in_future", "T105", _with_time("ce_recordedtime", 2 * _DAY_MS), _any),
    Fault("wrong_version", "T106", _with_header("ce_specversion", b"0.3"), _any),
    Fault("bad_hops", "T501", _with_header("ce_datahops", b"in-gw1-0"), _any),
    Fault("long_hops", "T502", _with_header("ce_datahops", _LONG), _any),
    Fault("looping_hops", "T502", _with_header("ce_datahops", _LOOP), _any),
    Fault("back_at_gate", "T502", _back_at_the_gate, _any),
    Fault("expired", "T405", _with_time("ce_expirytime", -3_600_000), _any),
)

MISLABELLED: Final[tuple[Fault, ...]] = (
    Fault("unknown_purpose", "T201", _with_header("ce_datapurpose", b"curiosity"), _any),
    Fault("unknown_class", "T202", _with_header("ce_dataclassification", b"TOPAZ"), _any),
    Fault("card_data_for_marketing", "T203", _card_data_for_marketing, _is_personal),
    Fault("secret", "T203", _with_header("ce_dataclassification", b"SECRET"), _has_subject),
    Fault("unknown_category", "T204", _with_header("ce_datacategory", b"shoe_size"), _any),
    Fault("future_policy", "T205", _future_policy, _any),
    Fault("unknown_type", "T301", _with_header("ce_type", b"ntf.request.imagined.v1"), _any),
    Fault("wrong_topic", "T301", _on_the_wrong_topic, _any),
    Fault("without_subject", "T101", _without_header("ce_subject"), _is_personal),
    Fault("without_category", "T101", _without_header("ce_datacategory"), _is_personal),
    Fault("without_consent", "T404", _without_consent, _lacks_consent),
)


def as_repeat(original: Message) -> Message:
    """The same message once more."""
    copy = msgspec.structs.replace(original, headers=list(original.headers))
    return refuse(copy, kind="repeat", code="T602")


def as_conflict(original: Message, event: Event) -> Message:
    """Another content under the same id and source."""
    copy = msgspec.structs.replace(original, headers=list(original.headers))
    copy.value = orjson.dumps({**event.body, "tenant": "elsewhere"})
    return refuse(copy, kind="conflict", code="T603")


def as_misused(event: Event, event_id: str, purpose: str) -> Message:
    """An event that uses what its cause told for a purpose the cause is not open to."""
    misused = msgspec.structs.replace(event, id=event_id, cause=event.id)
    message = message_of(misused, 0)
    message.id = event_id
    set_header(message, "ce_datapurpose", purpose.encode())
    return refuse(message, kind="misused", code="T206")
