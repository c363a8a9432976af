"""Read tickets from message headers: check, normalise, refuse with a code. Never raises."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np

from schemas.fates import Refusal
from schemas.few import are_few
from schemas.header_runs import Group, grouping_of
from schemas.hops import parse_hops
from schemas.policy import RANK_OF_A_PERSON, Policy
from schemas.ticket import (
    ATTRIBUTES,
    HEADERS_BYTES_MAX,
    LABEL_NAMES,
    PLAIN_FORMS,
    REQUIRED,
    TICKET_BYTES_MAX,
    Header,
    Label,
    Ticket,
    hash64,
    parse_time,
    sign,
)
from schemas.ticket_blocks import Reading
from schemas.ticket_memory import MemoryReader
from schemas.tickets import Numbers, Tickets, join, no_tickets

UNREADABLE: Final = "\N{REPLACEMENT CHARACTER}"
"""The name that stands for headers which a client could not read as UTF-8."""

_CACHE_MAX: Final = 4_096
"""Entries of each cache; a full one is emptied, so hostile headers cost time but no memory."""

_NAMES_KEPT_MAX: Final = 64
_NAME_CHARACTERS_KEPT_MAX: Final = 1_024
"""Of one header layout; a larger one is laid out anew each time, and never kept."""

_OWN_NAMES: Final = tuple(name for name in ATTRIBUTES if name not in LABEL_NAMES)

_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}").fullmatch
_NAME: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,64}").fullmatch
_SOURCE: Final = re.compile(rb"[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{1,128}").fullmatch
_TYPE: Final = re.compile(rb"[a-z0-9_.-]{1,80}").fullmatch
_LIST: Final = re.compile(rb"[A-Za-z0-9_-]{1,40}(?: ?, ?[A-Za-z0-9_-]{1,40}){0,15}").fullmatch
_POLICY: Final = re.compile(rb"[1-9][0-9]{0,8}").fullmatch
_JSON: Final = re.compile(rb"application/json(?: ?; ?charset=utf-8)?", re.IGNORECASE).fullmatch
_TRACEPARENT: Final = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


class _Layout(NamedTuple):
    """Where the attributes stand among headers with these names, in this order."""

    label_of: Any
    own_of: Any
    places: Mapping[str, int]
    ticket: tuple[int, ...]
    rest: tuple[int, ...]
    name_bytes: int
    all_name_bytes: int


class TicketReader:
    """Turns header lists into tickets under one policy.

    State: two bounded caches, of header layouts and of labels; dropping them changes nothing.
    Errors: none; what is wrong with a message is a `Refusal` value.
    """

    def __init__(self, policy: Policy, key: bytes | None = None) -> None:
        self._policy = policy
        self._key = key
        self._layouts: dict[tuple[str, ...], _Layout | Refusal] = {}
        self._labels: dict[tuple[bytes | None, ...], Label | Refusal] = {}
        self._memory = MemoryReader(self._label_of)

    def read(self, headers: Sequence[Header] | None) -> Ticket | Refusal:
        """Check one message's headers and give its ticket, or why there is none.

        Shapes: headers as Kafka clients give them, (name, value) in order, the value may be null.
        """
        if not headers:
            return Refusal("T101", f"/{REQUIRED[0]}", "expected a ticket in the headers")
        layout = self._layout_of(tuple(map(itemgetter(0), headers)))
        if isinstance(layout, Refusal):
            return layout
        values: list[bytes | None] = [*map(itemgetter(1), headers), None]
        wrong = _too_large(layout, values)
        if wrong is not None:
            return wrong
        label = self._label_of(layout.label_of(values))
        if isinstance(label, Refusal):
            return label
        ticket = _own_part(label, layout, values, headers)
        if self._key is not None and isinstance(ticket, Ticket):
            return self._verified(ticket, headers, self._key)
        return ticket

    def read_block(
        self, headers: Sequence[Sequence[Header] | None]
    ) -> tuple[Tickets, dict[int, Refusal]]:
        """Check the headers of many messages, and give their tickets and why some have none.

        Shapes: refusals by place. The same as `read` of each message, by column where it can be.
        """
        scanned = self._memory.read(headers) if self._key is None else None
        tickets, alone = scanned or self._read_groups(headers)
        singly = {place: self.read(headers[place]) for place in sorted(alone)}
        refusals = {at: v for at, v in singly.items() if isinstance(v, Refusal)}
        tickets.put({at: None if isinstance(v, Refusal) else v for at, v in singly.items()})
        return tickets, refusals

    def _read_groups(self, headers: Sequence[Sequence[Header] | None]) -> tuple[Tickets, list[int]]:
        grouping = grouping_of(headers)
        alone = [*grouping.alone]
        parts: list[Tickets] = []
        places: list[Numbers] = []
        left = np.ones(len(headers), np.bool_)
        for found in grouping.groups.values():
            layout = self._layout_of(found.names)
            mine = np.concatenate(found.places)
            if are_few(mine) or isinstance(layout, Refusal) or self._key is not None:
                alone += mine.tolist()
                continue
            part, suspects = self._read_group(found, layout)
            parts.append(part)
            places.append(mine)
            left[mine] = False
            alone += mine[[*suspects]].tolist() if suspects else []
        if not parts:
            return no_tickets(len(headers)), alone
        if left.any():
            places.append(np.flatnonzero(left))
            parts.append(no_tickets(len(places[-1])))
        return parts[0] if len(parts) == 1 else join(parts, places), alone

    def _read_group(self, found: Group, layout: _Layout) -> tuple[Tickets, set[int]]:
        reading = Reading(found, layout.places)
        tickets = reading.tickets(LABEL_NAMES, self._label_of)
        others = 0
        if layout.rest:
            columns = [found.column(place) for place in layout.rest]
            names = [found.names[place] for place in layout.rest]
            tickets.rests = list(zip(*map(zip, map(repeat, names), columns), strict=True))
            others = sum(max(len(value or b"") for value in column) for column in columns)
        ticket_bytes = layout.name_bytes + reading.bytes_max
        headers_bytes = ticket_bytes + layout.all_name_bytes + others
        if ticket_bytes > TICKET_BYTES_MAX or headers_bytes > HEADERS_BYTES_MAX:
            rows = enumerate(found.rows())
            reading.suspects.update(at for at, row in rows if _too_large(layout, row))
        return tickets, reading.suspects

    def _layout_of(self, names: tuple[str, ...]) -> _Layout | Refusal:
        layout = self._layouts.get(names)
        if layout is None:
            layout = _lay_out(names)
            if _is_small(names):
                _bounded(self._layouts, names, layout)
        return layout

    def _label_of(self, parts: tuple[bytes | None, ...]) -> Label | Refusal:
        label = self._labels.get(parts)
        if label is None:
            label = self._make_label(parts)
            _bounded(self._labels, parts, label)
        return label

    def glance(self, headers: Sequence[Header] | None) -> dict[str, str]:
        """What can be told of a ticket that was refused, so that its producer finds the message.

        Shapes: `id`, `source`, `type` where they have their form, else empty; `discard` is not
        empty when any class word in it belongs to a class whose body must not be kept, and when
        the headers could not be read: any class may have stood there.
        """
        given = {PLAIN_FORMS.get(name, name): value or b"" for name, value in headers or ()}
        told = {"id": "", "source": "", "type": "", "discard": ""}
        for part, form in (("id", _ID), ("source", _SOURCE), ("type", _TYPE)):
            value = given.get(f"ce_{part}", b"")
            if form(value):
                told[part] = value.decode("ascii")
        # Of several classifications each counts: the body is protected by the strictest.
        words = " ".join(
            (value or b"").decode("ascii", "replace").upper()
            for name, value in headers or ()
            if PLAIN_FORMS.get(name, name) == "ce_dataclassification"
        )
        for name, data_class in self._policy.classes.items():
            if data_class.body == "discard" and name in words:
                told["discard"] = name
        if UNREADABLE in given:
            told["discard"] = UNREADABLE
        return told

    def _verified(self, ticket: Ticket, headers: Sequence[Header], key: bytes) -> Ticket | Refusal:
        canonical = [(PLAIN_FORMS.get(name, name), value) for name, value in headers]
        if ticket.mac is None or not hmac.compare_digest(ticket.mac, sign(canonical, key)):
            return Refusal("T503", "/ce_ticketmac", "expected a signature made with our key")
        return ticket

    def _make_label(self, parts: tuple[bytes | None, ...]) -> Label | Refusal:
        given = dict(zip(LABEL_NAMES, parts, strict=True))
        wrong = _malformed(given)
        if wrong is not None:
            return wrong
        words = {name: value.decode("ascii") for name, value in given.items() if value is not None}
        purpose = words["ce_datapurpose"]
        classes = _split(words["ce_dataclassification"])
        categories = _split(words.get("ce_datacategory", ""))
        version = int(words["ce_datapolicy"]) if "ce_datapolicy" in words else None
        wrong = self._outside_vocabulary(purpose, classes, categories, version)
        if wrong is not None:
            return wrong
        decision = self._policy.decide(frozenset(classes), purpose)
        if "category" in decision.needs and not categories:
            return Refusal("T101", "/ce_datacategory", "expected for a class about a person")
        words["ce_dataclassification"] = ",".join(classes)
        words["content-type"] = "application/json"
        if categories:
            words["ce_datacategory"] = ",".join(categories)
        return Label(
            type=words["ce_type"],
            source=words["ce_source"],
            purpose=purpose,
            classes=classes,
            categories=categories,
            policy=version,
            regulation=words.get("ce_dataregulation", ""),
            dataschema=words.get("ce_dataschema", ""),
            decision=decision,
            pairs=tuple((name, words[name].encode()) for name in LABEL_NAMES if name in words),
            identity=hash64(words["ce_source"].encode()),
        )

    def _outside_vocabulary(
        self,
        purpose: str,
        classes: tuple[str, ...],
        categories: tuple[str, ...],
        version: int | None,
    ) -> Refusal | None:
        policy = self._policy
        if purpose not in policy.purposes:
            return Refusal("T201", "/ce_datapurpose", "expected a purpose of the policy")
        if not all(name in policy.classes for name in classes):
            return Refusal("T202", "/ce_dataclassification", "expected classes of the policy")
        if not all(name in policy.categories for name in categories):
            return Refusal("T204", "/ce_datacategory", "expected categories of the policy")
        if version is not None and not policy.oldest_version <= version <= policy.version:
            return Refusal(
                "T205",
                "/ce_datapolicy",
                f"expected a version from {policy.oldest_version} to {policy.version}",
            )
        return None


def _bounded(cache: dict[Any, Any], key: Any, value: Any) -> Any:
    if len(cache) >= _CACHE_MAX:
        cache.clear()
    cache[key] = value
    return value


def _is_small(names: tuple[str, ...]) -> bool:
    """Tell whether names may be kept: their producer decides how many and how long they are."""
    return len(names) <= _NAMES_KEPT_MAX and sum(map(len, names)) <= _NAME_CHARACTERS_KEPT_MAX


def _split(text: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in text.split(",")})) if text else ()


def _lay_out(names: tuple[str, ...]) -> _Layout | Refusal:
    places: dict[str, int] = {}
    rest: list[int] = []
    if UNREADABLE in names:
        return Refusal("T102", "", "expected header names in UTF-8")
    for place, name in enumerate(names):
        full = PLAIN_FORMS.get(name, name)
        if full not in ATTRIBUTES:
            rest.append(place)
        elif full in places:
            return Refusal("T102", f"/{full}", "expected this header once")
        else:
            places[full] = place
    for name in REQUIRED:
        if name not in places:
            return Refusal("T101", f"/{name}", "expected this header")
    nowhere = len(names)  # the place of the null that stands behind the last header
    return _Layout(
        label_of=itemgetter(*(places.get(name, nowhere) for name in LABEL_NAMES)),
        own_of=itemgetter(*(places.get(name, nowhere) for name in _OWN_NAMES)),
        places=places,
        ticket=tuple(places.values()),
        rest=tuple(rest),
        name_bytes=sum(map(len, places)),
        all_name_bytes=sum(len(name.encode("utf-8", "replace")) for name in names),
    )


def _too_large(layout: _Layout, values: Sequence[bytes | None]) -> Refusal | None:
    size = layout.name_bytes
    for place in layout.ticket:
        value = values[place]
        if value is None:
            return Refusal("T102", "", "expected every ticket header to have a value")
        size += len(value)
    if size > TICKET_BYTES_MAX:
        return Refusal("T103", "", f"expected a ticket of at most {TICKET_BYTES_MAX} bytes")
    if layout.rest:
        others = sum(len(values[place] or b"") for place in layout.rest)
        if size + others + layout.all_name_bytes > HEADERS_BYTES_MAX:
            return Refusal("T103", "", f"expected headers of at most {HEADERS_BYTES_MAX} bytes")
    return None


_FORMS: Final[Mapping[str, Any]] = {
    "ce_source": _SOURCE,
    "ce_type": _TYPE,
    "content-type": _JSON,
    "ce_datapurpose": _NAME,
    "ce_dataclassification": _LIST,
    "ce_datacategory": _LIST,
    "ce_datapolicy": _POLICY,
    "ce_dataregulation": _LIST,
    "ce_dataschema": _SOURCE,
}


def _malformed(given: Mapping[str, bytes | None]) -> Refusal | None:
    if given["ce_specversion"] != b"1.0":
        return Refusal("T106", "/ce_specversion", "expected 1.0")
    for name, form in _FORMS.items():
        value = given[name]
        if value is not None and not form(value):
            return Refusal("T102", f"/{name}", "expected the form that the contract states")
    return None


def _own_part(
    label: Label, layout: _Layout, values: Sequence[bytes | None], headers: Sequence[Header]
) -> Ticket | Refusal:
    """Check what differs from message to message."""
    own = dict(zip(_OWN_NAMES, layout.own_of(values), strict=True))
    event_id, time = own["ce_id"], own["ce_time"]
    if event_id is None or not _ID(event_id):
        return Refusal("T104", "/ce_id", "expected 8 to 64 characters of A-Z a-z 0-9 _ -")
    for name in ("ce_correlationid", "ce_subject", "ce_causationid"):
        value = own[name]
        if value is not None and not _NAME(value):
            return Refusal("T102", f"/{name}", "expected 1 to 64 characters of A-Z a-z 0-9 _ . : -")
    if own["ce_subject"] is None and label.decision.rank >= RANK_OF_A_PERSON:
        return Refusal("T101", "/ce_subject", "expected for a class about a person")
    times: dict[str, int | None] = {"ce_time": parse_time(time or b"")}
    for name in ("ce_recordedtime", "ce_expirytime"):
        value = own[name]
        times[name] = parse_time(value) if value is not None else -1
    for name, at_ms in times.items():
        if at_ms is None:
            return Refusal("T105", f"/{name}", "expected RFC 3339 from 1970 on")
    hops = own["ce_datahops"]
    if hops is not None:
        history = parse_hops(hops.decode("utf-8", "replace"))
        if isinstance(history, Refusal):
            return history
    return _assemble(label, own, times, tuple(headers[place] for place in layout.rest))


def _assemble(
    label: Label,
    own: Mapping[str, bytes | None],
    times: Mapping[str, int | None],
    rest: tuple[Header, ...],
) -> Ticket:
    recorded, expiry = times["ce_recordedtime"], times["ce_expirytime"]
    trace = own["traceparent"]
    return Ticket(
        label=label,
        id=(own["ce_id"] or b"").decode("ascii"),
        time_ms=times["ce_time"] or 0,
        correlation=(own["ce_correlationid"] or b"").decode("ascii"),
        subject=(own["ce_subject"] or b"").decode("ascii"),
        causation=(own["ce_causationid"] or b"").decode("ascii"),
        hops=(own["ce_datahops"] or b"").decode("ascii"),
        recorded_ms=recorded if recorded != -1 else None,
        expiry_ms=expiry if expiry != -1 else None,
        # W3C Trace Context: a trace that cannot be read is not passed on.
        traceparent=trace if trace is not None and _TRACEPARENT(trace) else None,
        tracestate=own["tracestate"] if trace is not None and _TRACEPARENT(trace) else None,
        mac=own["ce_ticketmac"],
        rest=rest,
    )
