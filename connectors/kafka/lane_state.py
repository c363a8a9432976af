"""What a lane saves, what its partitions must be like, and the words when they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas.errors import ConfigError, PermanentError, TransientError

Place = tuple[str, int]

VERSION: Final = 2
"""1 had the offsets of streams only; 2 has those of tables, too."""

READABLE: Final = (1, VERSION)


def read_state(resume: dict[str, Any] | None, lane: int) -> dict[Place, int]:
    """The next offset of each partition, from a snapshot of this release or an earlier one.

    Errors: PermanentError for a version that this release does not know.
    """
    if resume is None:
        return {}
    if resume["version"] not in READABLE:
        raise PermanentError(
            do="resume",
            kind="lane",
            name=str(lane),
            found=f"offsets of version {resume['version']}",
            expected=f"version 1 to {VERSION}",
            hint="run the release that wrote them",
        )
    return dict(resume["next"])


def dump_state(offsets: Mapping[Place, int]) -> dict[str, Any]:
    """A snapshot; a copy, whatever follows."""
    return {"version": VERSION, "next": dict(offsets)}


def check_partitions(counts: Mapping[str, int], lanes: int) -> None:
    """Make sure that each key has one lane: equal counts, a multiple of the lanes.

    Errors: ConfigError naming the counts.
    """
    if len(set(counts.values())) == 1 and next(iter(counts.values())) % lanes == 0:
        return
    raise ConfigError(
        do="share",
        kind="topics",
        name=", ".join(counts),
        found="partition counts " + ", ".join(map(str, counts.values())),
        expected=f"one count for all, a multiple of {lanes} lanes",
        hint="create the topics with `airside topics apply`, or set AIRSIDE_LANES",
    )


def missing_topic(topic: str, bootstrap_servers: str) -> ConfigError:
    """A topic that the flow reads is not there."""
    return ConfigError(
        do="read",
        kind="topic",
        name=topic,
        where=f"at {bootstrap_servers}",
        found="no such topic",
        hint="run `airside topics apply`",
    )


def unreadable_partition(place: Place, error: str) -> PermanentError:
    """Kafka will not give this partition any more."""
    return PermanentError(
        do="read on",
        kind="partition",
        name=f"{place[0]}/{place[1]}",
        found=f"Kafka error {error}",
        hint="see the broker's log",
    )


def offset_gone(place: Place, offset: int) -> PermanentError:
    """Retention overtook the lane, or the topic is another one."""
    return PermanentError(
        do="read on",
        kind="partition",
        name=f"{place[0]}/{place[1]}",
        where=f"at offset {offset}",
        found="that offset is gone",
        expected="retention longer than any stop, and topics that are never made anew",
        hint="messages may be lost: raise retention.ms, then start from an empty data folder; "
        "the embedded broker forgets everything when it stops",
    )


def stuck_partition(place: Place, seconds: float) -> TransientError:
    """A partition has more than the client gives."""
    return TransientError(
        do="read on",
        kind="partition",
        name=f"{place[0]}/{place[1]}",
        found=f"messages that the client does not hand out for {seconds:g} s or more",
        hint="nothing is lost, and the next start goes on",
    )


def silent_partition(place: Place, error: str) -> TransientError:
    """Kafka did not say where a partition ends."""
    return TransientError(
        do="ask for",
        kind="end of partition",
        name=f"{place[0]}/{place[1]}",
        found=f"Kafka error {error}, several times",
        hint="see the broker's log; nothing is lost, and the next start goes on",
    )
