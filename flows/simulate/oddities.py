"""Oddities: messages that look unusual and are right; refusing one would be a fault of the gate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from flows.simulate.events import Event, Message, message_of, time_text
from flows.simulate.faults import Fault, Setting, set_header

_DAY_MS: Final = 86_400_000
_PLAIN: Final = {"ce_datapurpose": "purpose", "ce_dataclassification": "classification"}


def _always(_setting: Setting, _event: Event) -> bool:
    return True


def _clock_back(setting: Setting, event: Event) -> Message:
    del setting
    event.warnings = (*event.warnings, "T504")
    return _with_hops(event, b"in.gw1.9>va.gw1.2")


def _replayed(setting: Setting, event: Event) -> Message:
    return _with_hops(event, f"in.gw1.0>ro.{setting.node}.5>rp.replay.9".encode())


def _with_hops(event: Event, hops: bytes) -> Message:
    message = message_of(event, 0)
    set_header(message, "ce_datahops", hops)
    return message


def _plain_forms(setting: Setting, event: Event) -> Message:
    del setting
    message = message_of(event, 0)
    message.headers = [(_PLAIN.get(name, name), value) for name, value in message.headers]
    return message


def _spaced_classes(setting: Setting, event: Event) -> Message:
    del setting
    message = message_of(event, 0)
    classes = " , ".join(reversed(event.label.classes.split(",")))
    set_header(message, "ce_dataclassification", classes.encode())
    return message


def _local_time(setting: Setting, event: Event) -> Message:
    """The same moment on another clock; the microseconds are cut off, not rounded."""
    zone = timezone(timedelta(hours=setting.rng.randrange(-11, 13), minutes=30))
    moment = datetime.fromtimestamp(event.time_ms // 1_000, UTC).astimezone(zone)
    moment = moment.replace(microsecond=event.time_ms % 1_000 * 1_000 + 999)
    message = message_of(event, 0)
    set_header(message, "ce_time", moment.isoformat().encode())
    return message


def _broken_trace(setting: Setting, event: Event) -> Message:
    del setting
    event.trace_id = ""
    message = message_of(event, 0)
    set_header(message, "traceparent", b"00-not-a-trace-01")
    return message


def _charset(setting: Setting, event: Event) -> Message:
    del setting
    message = message_of(event, 0)
    set_header(message, "content-type", b"application/json; charset=UTF-8")
    return message


def _new_field(setting: Setting, event: Event) -> Message:
    del setting
    event.body["shelf"] = {"row": [1, 2, 3]}
    return message_of(event, 0)


def _nested(setting: Setting, event: Event) -> Message:
    """As deep as a body may be: 256 levels, its own among them."""
    del setting
    message = message_of(event, 0)
    message.value = (message.value or b"")[:-1] + b',"x":' + b"[" * 255 + b"]" * 255 + b"}"
    return message


def _valid_for_days(setting: Setting, event: Event) -> Message:
    message = message_of(event, 0)
    expiry = time_text(setting.end_ms + 30 * _DAY_MS).encode()
    set_header(message, "ce_expirytime", expiry)
    return message


ODDITIES: Final[tuple[Fault, ...]] = (
    Fault("clock_back", "", _clock_back, _always),
    Fault("replayed", "", _replayed, _always),
    Fault("plain_forms", "", _plain_forms, _always),
    Fault("spaced_classes", "", _spaced_classes, _always),
    Fault("local_time", "", _local_time, _always),
    Fault("broken_trace", "", _broken_trace, _always),
    Fault("charset", "", _charset, _always),
    Fault("new_field", "", _new_field, _always),
    Fault("nested_as_allowed", "", _nested, _always),
    Fault("valid_for_days", "", _valid_for_days, _always),
)
