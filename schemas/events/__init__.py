"""Every event type: its stage, its topic, its two models, and how to decode and explain a body.

The pydantic model is the definition, and the source of the published contract. The msgspec Struct
is derived from it and is what runs per message; pydantic runs only to explain a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
from pydantic import BaseModel

from schemas.events import (
    decision,
    delivery,
    engagement,
    orchestration,
    outcome,
    profile,
    request,
)
from schemas.events.body import Strict
from schemas.events.explain import DECODE_ERRORS, PROBLEMS_MAX, Problem, explain_body
from schemas.events.fast import COLUMNS, derive

__all__ = [
    "COLUMNS",
    "DECODE_ERRORS",
    "EVENT_TYPES",
    "PROBLEMS_MAX",
    "EventType",
    "Problem",
    "explain",
]


class EventType(NamedTuple):
    """One CloudEvents type.

    `decode` takes the bytes of a body and returns its Struct, on which every name of `COLUMNS`
    can be read. It raises one of `DECODE_ERRORS`; `explain` then says why.
    """

    name: str
    stage: str
    topic: str
    model: type[BaseModel]
    struct: type[msgspec.Struct]
    decode: Callable[[bytes], msgspec.Struct]


def explain(event_type: EventType, body: bytes) -> list[Problem]:
    """List what is wrong with a body, without quoting it; nothing, if it decodes.

    Code T303 with an empty pointer for bytes that are no JSON text, else T302 with pointers.
    Errors: none, for any bytes.

    >>> kind = EVENT_TYPES["ntf.request.accepted.v1"]
    >>> body = b'{"journey_id": 7, "notification_id": "ntf-00001", "campaign": "spring",'
    >>> body += b'"tenant": "harbour"}'
    >>> for problem in explain(kind, body):
    ...     print(problem.code, problem.pointer, problem.reason)
    T302 /journey_id expected string
    T302 /idempotency_key required field is missing
    """
    assert issubclass(event_type.model, Strict)
    return explain_body(event_type.model, event_type.decode, body)


def _event_types() -> dict[str, EventType]:
    stages = (request, decision, orchestration, delivery, engagement, outcome, profile)
    found: dict[str, EventType] = {}
    for stage in stages:
        word = stage.__name__.rpartition(".")[2]
        for name, model in stage.MODELS.items():
            struct = derive(model)
            decode = msgspec.json.Decoder(struct).decode
            found[name] = EventType(name, word, stage.TOPIC, model, struct, decode)
    return found


EVENT_TYPES: Final[Mapping[str, EventType]] = MappingProxyType(_event_types())
