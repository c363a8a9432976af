"""Whether the journals that saved states name are there, and whole up to where they count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from connectors.journal import Journal, Mark
from schemas.errors import AirsideError


def marks_in(state: bytes) -> Iterator[Mark]:
    """The journals that a state of the gate, of journeys or of delivery times names.

    Shapes: a flow of its own keeps its state behind that of its reader.
    """
    found: Any = msgspec.msgpack.decode(state)
    if isinstance(found, list):
        found = msgspec.msgpack.decode(found[1])
    single = map(found.get, ("memory", "kept", "waiting"))
    for part in (*single, *found.get("learners", {}).values()):
        if isinstance(part, dict) and "journal" in part:
            name, number, size = part["journal"]
            yield name, number, size


def check_journal(folder: Path, mark: Mark) -> str:
    """What is wrong with a journal, in words; empty for nothing. Changes nothing."""
    try:
        Journal(folder, mark[0]).check(mark)
    except AirsideError as err:
        return f"{err.name}: {err.found}"
    return ""
