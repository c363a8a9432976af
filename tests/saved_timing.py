"""States of the timing lane as earlier releases saved them, and a lane to read them.

`python -m tests.saved_timing` saves what today's code makes of the story, under its version and,
without what that did not have, under those before that were never released; and it says in
about_timing.json what they hold. Run it when STATE_VERSION rises, or when a model's state changes
before a release. When a version has been released, take it out of `UNRELEASED`, and its file
stays as it is.
"""

from __future__ import annotations

import gzip
import json
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, Final

import msgspec

from flows.timing.lane import TimingLane
from flows.timing.upgrade import STATE_VERSION
from tests.messages import HOUR_MS, NOW_MS, Message, profile, with_body
from tests.saved_states import FOLDER
from tests.timing_world import MINUTE_MS, person, reacted, request, sent
from tests.unit.flows.timing.harness import Post

ABOUT: Final = FOLDER / "about_timing.json"
UNRELEASED: Final = (5,)
ADDED: Final[dict[int, tuple[str, ...]]] = {
    2: ("progressive", "trial.rhythms"),
    3: ("clusters",),
    4: (),
    5: (),
}
"""What each version added to the one before it."""

PEOPLE: Final = range(1, 13)
RULES: Final[dict[str, Any]] = {
    "holdout_share": 0.3,
    "window_s": 3_600,
    "kept_s": 86_400,
    "policies": {"autumn": "linucb"},
}


def homes() -> list[Message]:
    """Profiles, which each start reads again."""
    return [
        with_body(
            profile(n, subject=person(n), zone="Europe/Berlin", consent=["marketing"]),
            preferred_hours=[8 + n],
        )
        for n in PEOPLE
    ]


def asked(turn: int) -> list[Message]:
    at_ms = NOW_MS + turn * 48 * HOUR_MS
    return [
        request(
            turn * 100 + n,
            at_ms=at_ms,
            subject=person(n),
            campaign="autumn" if n % 4 == 0 else "spring",
        )
        for n in PEOPLE
    ]


def went(turn: int) -> list[Message]:
    at_ms = NOW_MS + turn * 48 * HOUR_MS + 10 * HOUR_MS
    return [sent(turn * 100 + n, at_ms=at_ms + n * MINUTE_MS, subject=person(n)) for n in PEOPLE]


def answered(turn: int) -> list[Message]:
    at_ms = NOW_MS + turn * 48 * HOUR_MS + 10 * HOUR_MS
    return [
        reacted(turn * 100 + n, at_ms=at_ms + 3 * n * MINUTE_MS, subject=person(n))
        for n in PEOPLE
        if n % 3
    ]


def looked_around(turn: int) -> list[Message]:
    """What people do with messages of others: six activities each, at six hours."""
    at_ms = NOW_MS + turn * 48 * HOUR_MS
    return [
        reacted(
            10_000 + turn * 100 + n * 10 + hour,
            at_ms=at_ms + (hour * 10 + n) * MINUTE_MS,
            subject=person(n),
        )
        for hour in range(6)
        for n in PEOPLE
    ]


def story() -> Post:
    """A lane in the middle of things: two turns are over, in the third nobody has answered yet.

    States of before version 3 were saved by people who did not look around.
    """
    post = Post(**RULES)
    post.take(*homes())
    post.take(*looked_around(0))
    for turn in range(2):
        for messages in (asked(turn), went(turn), answered(turn)):
            post.take(*messages)
    post.take(*asked(2))
    post.take(*went(2))
    return post


def timing_state(version: int) -> bytes:
    return gzip.decompress(path_of(version).read_bytes())


def path_of(version: int) -> Path:
    return FOLDER / f"timing.v{version}.msgpack.gz"


def holds(lane: TimingLane) -> dict[str, Any]:
    """What a state has to bring back, in numbers."""
    return {
        "journeys": len(lane.feedback),
        "planned": sum(len(plans) for _, plans in lane.plans.dump()),
        "sends_compared": int(lane.trial.evidence.arms[:, 1].sum()),
        "subjects": int(lane.trial.evidence.assigned.sum()),
        "rhythms": lane.clusters.learned,
        "learned": {name: learner.experience for name, learner in lane.learners.items()},
    }


def as_version(state: bytes, version: int) -> bytes:
    """A state without what came after a version."""
    parts = msgspec.msgpack.decode(state)
    parts["version"] = version
    for later in range(version + 1, STATE_VERSION + 1):
        for path in ADDED[later]:
            *steps, last = path.split(".")
            del reduce(getitem, steps, parts)[last]
    return msgspec.msgpack.encode(parts)


def save() -> list[Path]:
    lane = story().lane
    about = json.loads(ABOUT.read_text()) if ABOUT.exists() else {}
    saved = []
    for version in UNRELEASED:
        about[str(version)] = holds(lane)
        saved.append(path_of(version))
        saved[-1].write_bytes(gzip.compress(as_version(lane.dump(), version), mtime=0))
    ABOUT.write_text(json.dumps(about, indent=2) + "\n")
    return saved


if __name__ == "__main__":
    save()
