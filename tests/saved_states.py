"""States as earlier releases saved them, and the messages that they were made from.

`python -m tests.saved_states` saves what today's code makes of the first half where its version has
no state yet: run it when a STATE_VERSION rises. What was released stays as it is.
"""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.journal import Journals
from flows.follow import Follower
from flows.ingest import make_checker, make_gate
from flows.journey.follow import STATE_VERSION as JOURNEY_VERSION
from flows.journey.follow import JourneyFollower
from flows.journey.make import make_step
from flows.steps.gate import LaneGate
from flows.steps.upgrade import STATE_VERSION
from schemas.blocks import AcceptedBlock, Outputs, RawBlock
from tests.messages import policy, settings

FOLDER: Final = Path(__file__).parent / "data" / "states"
JOURNALS: Final = FOLDER / "journals"
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


def kept_state() -> bytes:
    """A gate's state of version 4 whose memory is in a journal of the folder `JOURNALS`."""
    return (FOLDER / "gate.v4.kept.msgpack").read_bytes()


def save_kept() -> None:
    """That state, run once when its form or that of the memory's changes rises."""
    gate = new_gate()
    gate.kept.keep_in(Journals(JOURNALS).open)
    gate.kept.keep_as("gate-001")
    state = b""
    for block in story().before:
        run(gate, [block])
        state = gate.dump()
    (FOLDER / "gate.v4.kept.msgpack").write_bytes(state)
    run(gate, story().after)
    gate.dump()  # of an epoch that did not become durable


def lane_state(version: int) -> dict[str, Any]:
    """The lane source's state, pickled as the engine keeps it."""
    found: dict[str, Any] = pickle.loads((FOLDER / f"lane.v{version}.pickle").read_bytes())
    return found


def new_gate() -> LaneGate:
    return make_gate(SETTINGS, policy())


def run(gate: LaneGate, blocks: list[RawBlock]) -> list[Outputs]:
    checker = make_checker(SETTINGS, policy())
    return [gate.pass_block(checker.check(block)) for block in blocks]


def journey_state(version: int) -> bytes:
    return gzip.decompress((FOLDER / f"journey.v{version}.msgpack.gz").read_bytes())


def new_journeys() -> Follower:
    return make_step(SETTINGS).make()


def kept_journeys() -> bytes:
    """A state of version 2 whose journeys are in a journal of the folder `JOURNALS`."""
    return (FOLDER / "journey.v2.kept.msgpack").read_bytes()


def save_kept_journeys() -> None:
    """That state, run once when its form or that of the journeys' changes rises."""
    follower = new_journeys()
    assert isinstance(follower, JourneyFollower)
    follower.keep_in(Journals(JOURNALS).open)
    before, after = accepted(story().before, story().after)
    state = b""
    for block in before:
        follower.follow(block)
        state = follower.dump()
    (FOLDER / "journey.v2.kept.msgpack").write_bytes(state)
    for block in after:
        follower.follow(block)
    follower.dump()  # of an epoch that did not become durable


def accepted(*halves: list[RawBlock]) -> list[list[AcceptedBlock]]:
    """What a gate that never stopped gave to its followers, half by half."""
    gate = make_gate(SETTINGS, policy(), followed=True)
    outputs = [run(gate, half) for half in halves]
    return [[out.accepted for out in half if out.accepted is not None] for half in outputs]


def save_journeys() -> Path:
    """The state of the journey flow, run once when its STATE_VERSION rises."""
    follower = new_journeys()
    for block in accepted(story().before)[0]:
        follower.follow(block)
    path = FOLDER / f"journey.v{JOURNEY_VERSION}.msgpack.gz"
    path.write_bytes(gzip.compress(follower.dump(), mtime=0))
    return path


def save() -> Path:
    gate = new_gate()
    run(gate, story().before)
    path = FOLDER / f"gate.v{STATE_VERSION}.msgpack.gz"
    path.write_bytes(gzip.compress(gate.dump(), mtime=0))
    return path


if __name__ == "__main__":
    if not (FOLDER / f"gate.v{STATE_VERSION}.msgpack.gz").exists():
        save()
    if not JOURNALS.exists():
        save_kept()
    if not (FOLDER / f"journey.v{JOURNEY_VERSION}.msgpack.gz").exists():
        save_journeys()
        save_kept_journeys()
