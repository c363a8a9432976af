"""The traffic that every system reads, and what each job has to find in it.

The generator keeps its own books while it makes the messages, so what is expected does not come
from any code that is measured.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

TOPIC: Final = "ntf.engagement.v1"
PARTITIONS: Final = 4
USERS: Final = 100_000
CAMPAIGNS: Final = 50
SPAN_MS: Final = 600_000
JITTER_MS: Final = 2_000
RECORDED_AFTER_MS: Final = 2_500
CHANNELS: Final = ("email", "push", "sms", "in_app")
# The type, and what its body has besides the fields that all have.
KINDS: Final = (
    ("ntf.engagement.seen.v1", ""),
    ("ntf.engagement.opened.v1", ',"machine":false'),
    ("ntf.engagement.clicked.v1", ',"link_id":"l1"'),
    ("ntf.engagement.dismissed.v1", ""),
    ("ntf.engagement.unsubscribed.v1", ',"scope":"campaign"'),
)
POSITIVE: Final = frozenset((1, 2))
# The class, its purpose and category, where the policy sends it, and how many of ten have it.
CLASSES: Final = (
    (b"INTERNAL", b"engagement_tracking", None, "ntf.routed.open.v1", 4),
    (b"GDPR,PII", b"engagement_tracking", b"behaviour", "ntf.routed.restricted.v1", 4),
    (b"PCI", b"fraud", b"payment", "ntf.routed.pci.v1", 2),
)
FAULTS: Final = ("truncated", "missing", "type", "enum", "unlabelled")
CODES: Final = {
    "truncated": "T303",
    "missing": "T302",
    "type": "T302",
    "enum": "T302",
    "unlabelled": "T101",
}


class Shape(NamedTuple):
    """What the traffic looks like. Shapes: 1 in `malformed_each` is malformed, none for 0.

    Units: `body_bytes` is the least that a body has; `more_headers` are none of the ticket's.
    """

    users: int = USERS
    partitions: int = PARTITIONS
    body_bytes: int = 0
    malformed_each: int = 100
    more_headers: int = 0


class Sample(NamedTuple):
    """One message as it is sent."""

    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


class Corpus:
    """Messages in time order; after `samples` has ended, `expected` says what is in them.

    Shapes: 1 in 100 is malformed, in five kinds by turns. Units: `start_ms` is the beginning of
    the first minute; the events lie in the ten minutes from there, two seconds more or less.
    """

    def __init__(
        self, messages: int, *, start_ms: int, seed: int = 7, shape: Shape | None = None
    ) -> None:
        self._shape = shape or Shape()
        self._messages = messages
        self._start_ms = start_ms
        self._seed = seed
        self._routed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._cells: Counter[tuple[int, int, int]] = Counter()
        self._users: Counter[tuple[int, int]] = Counter()
        self._arms: Counter[tuple[int, int, bool]] = Counter()
        self.ends = dict.fromkeys(range(self._shape.partitions), 0)

    def samples(self) -> Iterator[Sample]:
        chance = random.Random(self._seed)
        draw, shape = chance.randrange, self._shape
        more = [
            (f"x-more-{number:02}", b"of another system") for number in range(shape.more_headers)
        ]
        shares = [place for place, (*_, share) in enumerate(CLASSES) for _ in range(share)]
        for number in range(self._messages):
            at_ms = self._start_ms + number * SPAN_MS // self._messages
            at_ms += draw(-JITTER_MS, JITTER_MS)
            fault = _fault_of(number, shape.malformed_each)
            user, kind, channel = draw(shape.users), draw(len(KINDS)), draw(len(CHANNELS))
            campaign, data_class = draw(CAMPAIGNS), shares[draw(10)]
            key = b"usr_%06d" % user
            value = _body(
                number,
                subject=key.decode(),
                kind=kind,
                campaign=campaign,
                channel=channel,
                fault=fault,
            )
            headers = _headers(
                number,
                key,
                kind=kind,
                data_class=data_class,
                at_ms=at_ms,
                trace=chance.getrandbits(64),
            )
            value = _filled(value, shape.body_bytes)
            headers += more
            if fault == "truncated":
                value = value[:60]
            elif fault == "unlabelled":
                headers = [pair for pair in headers if pair[0] != "ce_dataclassification"]
            partition = zlib.crc32(key) % shape.partitions
            self.ends[partition] += 1
            if fault:
                self._refused[CODES[fault]] += 1
            else:
                self._routed[CLASSES[data_class][3]] += 1
                self._cells[at_ms // 60_000, campaign, kind] += 1
                self._users[user, kind] += 1
                self._arms[campaign, channel, kind in POSITIVE] += 1
            yield Sample(partition, key, value, headers, at_ms + RECORDED_AFTER_MS)

    def expected(self) -> dict[str, Any]:
        """What the jobs must report: A the doors, B also the cells, C also users and arms."""
        return {
            "routed": dict(sorted(self._routed.items())),
            "refused": dict(sorted(self._refused.items())),
            "cells": len(self._cells),
            "cells_sum": sum(self._cells.values()),
            "cells_squares": sum(n * n for n in self._cells.values()),
            "users": len({user for user, _ in self._users}),
            "users_squares": sum((kind + 1) * n * n for (_, kind), n in self._users.items()),
            "arms": len({arm[:2] for arm in self._arms}),
            "arms_squares": sum((1 if arm[2] else 3) * n * n for arm, n in self._arms.items()),
        }


FIELDS_OF_JOB: Final = {
    "A": ("routed", "refused"),
    "B": ("routed", "refused", "cells", "cells_sum", "cells_squares"),
    "C": (
        *("routed", "refused", "cells", "cells_sum", "cells_squares"),
        *("users", "users_squares", "arms", "arms_squares"),
    ),
}


def _fault_of(number: int, each: int) -> str:
    if each and number % each == each * 37 // 100:
        return FAULTS[number // each % 5]
    return ""


def _filled(value: bytes, size: int) -> bytes:
    """A body of at least this size: one field more, which no step reads."""
    missing = size - len(value) - len(b',"note":""')
    return value[:-1] + b',"note":"%b"}' % (b"a" * missing) if missing > 0 else value


def _body(
    number: int, *, subject: str, kind: int, campaign: int, channel: int, fault: str
) -> bytes:
    notification = "" if fault == "missing" else f'"notification_id":"n{number // 3:07d}",'
    journey = "7" if fault == "type" else f'"j{number:07d}"'
    word = "fax" if fault == "enum" else CHANNELS[channel]
    return (
        f'{{"journey_id":{journey},{notification}"campaign":"c{campaign:02d}",'
        f'"tenant":"t1","channel":"{word}","provider":"p1","subject":"{subject}"'
        f"{KINDS[kind][1]}}}"
    ).encode()


def _headers(
    number: int, key: bytes, *, kind: int, data_class: int, at_ms: int, trace: int
) -> list[tuple[str, bytes]]:
    name, purpose, category, _, _ = CLASSES[data_class]
    moment = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"evt-%012x" % number),
        ("ce_source", b"/sender/postwing"),
        ("ce_type", KINDS[kind][0].encode()),
        ("ce_time", moment.replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
        ("ce_datapurpose", purpose),
        ("ce_dataclassification", name),
        ("ce_correlationid", b"j%07d" % number),
        ("ce_subject", key),
    ]
    if category is not None:
        headers.append(("ce_datacategory", category))
    headers.append(("traceparent", b"00-%016x%016x-%016x-01" % (trace, number, trace ^ number)))
    return headers
