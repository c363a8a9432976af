"""The page about event types, written from the contracts so that it cannot drift from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from schemas.events import EVENT_TYPES, EventType
from schemas.events.body import EventBody

_COMMON: Final = tuple(
    name for name, field in EventBody.model_fields.items() if field.is_required()
)
_WIDELY_USED: Final = ("channel", "to_channel", "priority")

_HEAD: Final = """# Event types

Written by `python -m schemas.contracts_build`; edit the models in `schemas/events/`, not this page.

Every body has {common}, and may have `subject`.
Only the profile, which belongs to a person and not to a message, has none of these but `subject`.
Fields that a contract does not list are ignored. The whole contract of an event type is
`schemas/contracts/<event type>.schema.json`, an example `schemas/examples/<event type>/1.json`.

| event type | stage | topic | required besides | optional | closed lists |
| --- | --- | --- | --- | --- | --- |
"""

_TAIL: Final = """
Channels: {channels}.
Priorities: {priorities}.
Times are RFC 3339, amounts are in minor units of their ISO 4217 currency.
"""


def write_page(contracts: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the whole page, one row per event type in the order of the stages."""
    common = ", ".join(f"`{name}`" for name in _COMMON)
    rows = [_row(kind, contracts[kind.name]) for kind in EVENT_TYPES.values()]
    created = contracts["ntf.request.created.v1"]["properties"]
    tail = _TAIL.format(
        channels=", ".join(created["channels_allowed"]["items"]["enum"]),
        priorities=", ".join(created["priority"]["enum"]),
    )
    return _HEAD.format(common=common) + "\n".join(rows) + "\n" + tail


def closed_lists(contract: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Give each field of a contract that takes one of a closed list, with the list."""
    for name, part in contract["properties"].items():
        for choice in (part, *part.get("anyOf", ())):
            if "enum" in choice:
                yield name, choice["enum"]


def _row(kind: EventType, contract: Mapping[str, Any]) -> str:
    required = set(contract["required"])
    alternatives = [rule["required"][0] for rule in contract.get("oneOf", ())]
    besides = [f"`{name}`" for name in contract["properties"] if name in required - {*_COMMON}]
    if alternatives:
        besides.append("one of " + ", ".join(f"`{name}`" for name in alternatives))
    free = [
        f"`{name}`"
        for name in contract["properties"]
        if name not in required and name not in alternatives and name != "subject"
    ]
    lists = [
        f"`{name}`: {', '.join(values)}"
        for name, values in closed_lists(contract)
        if name not in _WIDELY_USED
    ]
    cells = (f"`{kind.name}`", kind.stage, f"`{kind.topic}`")
    texts = (*cells, ", ".join(besides), ", ".join(free), "<br>".join(lists))
    return f"| {' | '.join(text or '-' for text in texts)} |"
