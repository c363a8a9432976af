"""States of the timing lane as earlier releases saved them, and a lane to read them.

`python -m tests.saved_timing` saves what today's code makes of the story, under its version, and
says in about.json what it holds. Run it when STATE_VERSION rises, or when the model's state
changes before a release; never again for a version that has been released.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Final

from flows.timing.lane import TimingLane
from flows.timing.upgrade import STATE_VERSION
from tests.messages import HOUR_MS, NOW_MS, Message, profile, with_body
from tests.saved_states import FOLDER
from tests.timing_world import MINUTE_MS, person, reacted, request, sent
from tests.unit.flows.timing.harness import Post

ABOUT: Final = FOLDER / "about_timing.json"
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


def story() -> Post:
    """A lane in the middle of things: two turns are over, in the third nobody has answered yet."""
    post = Post(**RULES)
    post.take(*homes())
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
        "learned": {name: learner.experience for name, learner in lane.learners.items()},
    }


def save() -> Path:
    lane = story().lane
    about = json.loads(ABOUT.read_text()) if ABOUT.exists() else {}
    about[str(STATE_VERSION)] = holds(lane)
    ABOUT.write_text(json.dumps(about, indent=2) + "\n")
    path = path_of(STATE_VERSION)
    path.write_bytes(gzip.compress(lane.dump(), mtime=0))
    return path


if __name__ == "__main__":
    save()
