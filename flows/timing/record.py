"""Write decisions as records, and what lanes publish of their sums."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from flows.timing.decide import Draw
from schemas.blocks import ORIGIN_HEADER, AcceptedBlock, Origin, OutRecord
from schemas.hops import Hop, append_hop
from schemas.ticket import Header, Label, Ticket, encode_ticket, format_time, hash64, intern_label

DECISION_TYPE: Final = "ntf.decision.made.v1"
DECISION_TOPIC: Final = "ntf.decisions.v1"
RESULTS_TOPIC: Final = "airside.experiments.v1"
SOURCE: Final = "/airside/timing"
STAGE: Final = "de"
ALTERNATIVES_MAX: Final = 5
ORDINAL: Final = 100
"""Ordinals of one origin: 0 is the gate's record, these are ours."""


def decision_id(draw: Draw) -> str:
    """The same for a request and its journey, whenever it is decided again."""
    text = f"{draw.ask.label.source}\0{draw.ask.event}\0{draw.ask.journey}"
    return "dec-" + hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=4_096)
def decision_label(label: Label, policy: int) -> Label:
    """The label of a decision: its request's purpose and classes, our type and source."""
    own = {
        "ce_type": DECISION_TYPE.encode(),
        "ce_source": SOURCE.encode(),
        "ce_datapolicy": str(policy).encode(),
    }
    kept = [pair for pair in label.pairs if pair[0] not in own and pair[0] != "ce_dataschema"]
    return intern_label(
        DECISION_TYPE,
        SOURCE,
        label.purpose,
        label.classes,
        label.categories,
        policy,
        label.regulation,
        "",
        label.decision,
        (*kept, *own.items()),
        hash64(SOURCE.encode()),
    )


class Writer:
    """Writes records for one lane, under one node's name.

    Delivery: the records of one draw are the same whenever they are written again.
    """

    def __init__(self, *, node: str, policy: int, key: bytes | None) -> None:
        self._node = node
        self._policy = policy
        self._key = key

    def decision(self, draw: Draw, block: AcceptedBlock) -> OutRecord:
        """The message that tells a sender when to send."""
        ask, place = draw.ask, draw.ask.place
        hop = Hop(STAGE, self._node, ask.now_ms - block.recorded_ms[place], "")
        ticket = Ticket(
            label=decision_label(ask.label, self._policy),
            id=decision_id(draw),
            time_ms=ask.now_ms,
            correlation=ask.journey,
            subject=ask.subject,
            causation=ask.event,
            hops=append_hop(block.hops[place], hop),
            recorded_ms=block.recorded_ms[place],
        )
        origin = Origin(block.topic, block.partitions[place], block.offsets[place], ORDINAL)
        headers = encode_ticket(ticket, self._key)
        headers.append((ORIGIN_HEADER, str(origin).encode()))
        body = orjson.dumps(self.body(draw))
        return OutRecord(DECISION_TOPIC, ask.subject.encode(), body, headers, origin)

    def body(self, draw: Draw) -> dict[str, Any]:
        """The body of a decision; what is not known is left out."""
        ask = draw.ask
        found: dict[str, Any] = {
            "journey_id": ask.journey,
            "notification_id": ask.body.notification_id,
            "campaign": ask.body.campaign,
            "tenant": ask.body.tenant,
            "subject": ask.subject,
            "decision_id": decision_id(draw),
            "request_id": ask.event,
            "send_at": _text(draw.at_ms),
            "arm": draw.arm_name,
            "reason": draw.reason,
            "propensity": draw.propensity,
            "allowed": draw.allowed,
            "model": draw.model,
            "model_version": draw.version,
            "policy_version": self._policy,
            "channels": list(ask.channels),
        }
        if draw.times is not None:
            found["slot"] = draw.slot
            found["alternatives"] = [
                {"send_at": _text(int(draw.times[slot])), "slot": slot, "propensity": odds}
                for slot, odds in others_of(draw)
            ]
        if ask.latest_ms:
            found["latest_at"] = _text(ask.latest_ms)
        return found


def others_of(draw: Draw, most: int = ALTERNATIVES_MAX) -> list[tuple[int, float]]:
    """The likeliest other slots and their odds; earlier slots first among equals."""
    order = np.argsort(-draw.odds, kind="stable")[: most + 1].tolist()
    return [
        (slot, float(draw.odds[slot]))
        for slot in order
        if slot != draw.slot and draw.odds[slot] > 0
    ][:most]


def note(topic: str, key: bytes, value: bytes, *, origin: Origin, kind: bytes) -> OutRecord:
    """A message that Airside speaks to itself: no ticket, since it is about nobody."""
    headers: list[Header] = [("content-type", kind), (ORIGIN_HEADER, str(origin).encode())]
    return OutRecord(topic, key, value, headers, origin)


def last_origin(block: AcceptedBlock, ordinal: int) -> Origin:
    """What follows from a whole block stands behind its last event."""
    return Origin(block.topic, block.partitions[-1], block.offsets[-1], ordinal)


def _text(at_ms: int) -> str:
    return format_time(at_ms).decode()


def plain(value: Any) -> Any:
    """A struct as values that JSON has; what is not finite as null."""
    return orjson.loads(orjson.dumps(msgspec.to_builtins(value)))
