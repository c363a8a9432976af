"""One message's check, for the peers in Python: they differ by their frameworks only.

The same checks as Airside's, written for one message at a time, as a careful user of a framework
would. Runs in the peers' environments: the standard library and msgspec only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

_Identifier = Annotated[str, msgspec.Meta(min_length=8, max_length=64)]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_ProviderId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Channel = Literal["email", "sms", "push", "web_push", "in_app", "chat", "voice", "postal"]


class _Body(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    journey_id: _Identifier
    notification_id: _Identifier
    campaign: _Label
    tenant: _Label
    subject: _Identifier | None = None
    channel: _Channel
    provider: _Label
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    message_id: _ProviderId | None = None
    provider_event_id: _ProviderId | None = None
    arm: _Label | None = None


class _Opened(_Body, frozen=True, gc=False, kw_only=True):
    machine: bool


class _Clicked(_Body, frozen=True, gc=False, kw_only=True):
    link_id: _Label
    machine: bool = False


class _Unsubscribed(_Body, frozen=True, gc=False, kw_only=True):
    scope: Literal["campaign", "purpose", "channel", "all"]


KINDS: Final = {
    b"ntf.engagement.seen.v1": (0, msgspec.json.Decoder(_Body).decode),
    b"ntf.engagement.opened.v1": (1, msgspec.json.Decoder(_Opened).decode),
    b"ntf.engagement.clicked.v1": (2, msgspec.json.Decoder(_Clicked).decode),
    b"ntf.engagement.dismissed.v1": (3, msgspec.json.Decoder(_Body).decode),
    b"ntf.engagement.unsubscribed.v1": (4, msgspec.json.Decoder(_Unsubscribed).decode),
}
POSITIVE: Final = frozenset((1, 2))
REQUIRED: Final = frozenset(
    (
        *("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"),
        *("ce_datapurpose", "ce_dataclassification", "ce_correlationid"),
    )
)
PERSONAL: Final = frozenset(("PII", "GDPR", "PCI", "PHI", "SPECIAL"))
TICKET_BYTES_MAX: Final = 1_024

_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}").fullmatch
_NAME: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,64}").fullmatch
_SOURCE: Final = re.compile(rb"[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{1,128}").fullmatch
_TRACE: Final = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


class Event(msgspec.Struct, frozen=True, gc=False):
    """An accepted message. Units: milliseconds since 1970 UTC."""

    destination: str
    kind: int
    minute: int
    subject: str
    campaign: str
    channel: str
    headers: dict[str, bytes]
    body: Any


class Judge:
    """Checks one message; `destinations` says where the policy sends each class and purpose."""

    def __init__(self, destinations: dict[str, str]) -> None:
        self._destinations = destinations
        self._labels: dict[tuple[bytes | None, ...], tuple[str, bool] | str] = {}

    def judge(  # noqa: C901, PLR0912 - one call for each message; it ends at the first fault
        self,
        key: bytes | None,
        value: bytes | None,
        pairs: Sequence[tuple[str, bytes]],
        recorded_ms: int,
    ) -> Event | str:
        """The event, or the code of its refusal."""
        headers = dict(pairs)
        if len(headers) != len(pairs):
            return "T102"
        if not headers.keys() >= REQUIRED:
            return "T101"
        if sum(map(len, headers)) + sum(map(len, headers.values())) > TICKET_BYTES_MAX:
            return "T103"
        get = headers.get
        purpose, classes = headers["ce_datapurpose"], headers["ce_dataclassification"]
        parts = (purpose, classes, get("ce_datacategory"), headers["ce_source"])
        label = self._labels.get(parts)
        if label is None:
            label = self._labels[parts] = self._label(*parts)
        if isinstance(label, str):
            return label
        destination, personal = label
        if headers["ce_specversion"] != b"1.0" or headers["content-type"] != b"application/json":
            return "T102"
        subject, correlation = get("ce_subject"), headers["ce_correlationid"]
        if not _ID(headers["ce_id"]):
            return "T104"
        if not _NAME(correlation) or (subject is not None and not _NAME(subject)):
            return "T102"
        if subject is None and personal:
            return "T101"
        trace = get("traceparent")
        if trace is not None and not _TRACE(trace):
            del headers["traceparent"]
        try:
            moment = datetime.fromisoformat(headers["ce_time"].decode())
        except ValueError:
            return "T105"
        at_ms = int(moment.timestamp() * 1_000)
        if at_ms > recorded_ms + 300_000:
            return "T105"
        if key != (subject or headers["ce_id"]):
            return "T107"
        found = KINDS.get(headers["ce_type"])
        if found is None:
            return "T301"
        if value is None or not (value.isascii() or _is_utf8(value)):
            return "T303"
        kind, decode = found
        try:
            body = decode(value)
        except msgspec.ValidationError:
            return "T302"
        except msgspec.DecodeError:
            return "T303"
        who = "" if subject is None else subject.decode()
        if body.journey_id != correlation.decode() or body.subject not in (None, who):
            return "T302"
        return Event(
            destination, kind, at_ms // 60_000, who, body.campaign, body.channel, headers, body
        )

    def _label(
        self, purpose: bytes, classes: bytes, category: bytes | None, source: bytes
    ) -> tuple[str, bool] | str:
        destination = self._destinations.get(f"{classes.decode()} {purpose.decode()}")
        if destination is None:
            return "T202"
        if not _SOURCE(source):
            return "T102"
        personal = bool(PERSONAL & set(classes.decode().split(",")))
        return "T101" if personal and category is None else (destination, personal)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class Tally:
    """What a job found; the parts that a job has not stay empty."""

    def __init__(self) -> None:
        self.routed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.cells: dict[tuple[int, str, int], int] = {}
        self.users: dict[str, list[int]] = {}
        self.arms: dict[tuple[str, str], list[int]] = {}

    @property
    def seen(self) -> int:
        return self.routed.total() + self.refused.total()

    def counts(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "routed": dict(sorted(self.routed.items())),
            "refused": dict(sorted(self.refused.items())),
        }
        if job in "BC":
            found["cells"] = len(self.cells)
            found["cells_sum"] = sum(self.cells.values())
            found["cells_squares"] = sum(n * n for n in self.cells.values())
        if job == "C":
            users = self.users.values()
            found["users"] = len(self.users)
            found["users_squares"] = sum(
                (kind + 1) * n * n for user in users for kind, n in enumerate(user)
            )
            arms = self.arms.values()
            found["arms"] = len(self.arms)
            found["arms_squares"] = sum(good * good + 3 * bad * bad for good, bad in arms)
        return found
