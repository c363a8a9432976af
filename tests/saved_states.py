"""States as earlier releases saved them, and the messages that they were made from.

`python -m tests.saved_states` saves what today's code makes of the first half, under its version;
run it once when STATE_VERSION rises, and never again for a version that has been released.
"""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any, Final

import msgspec

from flows.ingest import make_checker, make_gate
from flows.steps.gate import LaneGate
from flows.steps.upgrade import STATE_VERSION
from schemas.blocks import Outputs, RawBlock
from tests.messages import policy, settings

FOLDER: Final = Path(__file__).parent / "data" / "states"
SETTINGS: Final = settings(time={"duplicate_s_max": 43_200})
ABOUT: Final[dict[str, Any]] = json.loads((FOLDER / "about.json").read_text())


class Story(msgspec.Struct, frozen=True):
    """One lane's blocks: `before` led to the saved states, `after` has to go on from there."""

    before: list[RawBlock]
    after: list[RawBlock]


def story() -> Story:
    told = gzip.decompress((FOLDER / "story.msgpack.gz").read_bytes())
    return msgspec.msgpack.decode(told, type=Story)


def gate_state(version: int) -> bytes:
    return gzip.decompress((FOLDER / f"gate.v{version}.msgpack.gz").read_bytes())


def lane_state(version: int) -> dict[str, Any]:
    """The lane source's state, pickled as the engine keeps it."""
    found: dict[str, Any] = pickle.loads((FOLDER / f"lane.v{version}.pickle").read_bytes())
    return found


def new_gate() -> LaneGate:
    return make_gate(SETTINGS, policy())


def run(gate: LaneGate, blocks: list[RawBlock]) -> list[Outputs]:
    checker = make_checker(SETTINGS, policy())
    return [gate.pass_block(checker.check(block)) for block in blocks]


def save() -> Path:
    gate = new_gate()
    run(gate, story().before)
    path = FOLDER / f"gate.v{STATE_VERSION}.msgpack.gz"
    path.write_bytes(gzip.compress(gate.dump(), mtime=0))
    return path


if __name__ == "__main__":
    save()
