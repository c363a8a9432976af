"""Remember which events were accepted, for a while, so that a repeat changes nothing."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec
import numpy as np

_BUCKET_MS: Final = 600_000
_MASK: Final = (1 << 64) - 1


class Sight(Enum):
    """What is known of an event: never seen, seen with this content, seen with another."""

    NEW = "new"
    REPEAT = "repeat"
    CONFLICT = "conflict"


class Memory(msgspec.Struct):
    """Accepted events of one lane: identity and content as 64-bit hashes, and their purpose.

    Units: times in milliseconds of event time; the horizon moves with the newest event seen.
    State: at most `entries_max` events; the oldest bucket goes first when there are more.
    """

    ttl_ms: int
    entries_max: int
    contents: dict[int, int] = {}
    purposes: dict[int, int] = {}
    buckets: dict[int, list[tuple[int, int]]] = {}

    def see(self, *, event: int, source: int, content: int, purpose: int, now_ms: int) -> Sight:
        """Tell whether an event is new, and remember it if it is.

        Shapes: `event` and `content` are 64-bit hashes of the id and of everything that must not
        change; `source` is the 64-bit hash of the source; `purpose` a small number.
        """
        key = (event + source * 0x9E3779B97F4A7C15) & _MASK
        known = self.contents.get(key)
        if known is not None:
            return Sight.REPEAT if known == content else Sight.CONFLICT
        self.contents[key] = content
        self.purposes[event] = purpose
        self.buckets.setdefault(now_ms // _BUCKET_MS, []).append((key, event))
        return Sight.NEW

    def purpose_of(self, event: int) -> int | None:
        """The purpose of a remembered event, by the hash of its id."""
        return self.purposes.get(event)

    def forget_before(self, now_ms: int) -> None:
        """Drop what is older than the time to live, and the oldest above the bound."""
        horizon = (now_ms - self.ttl_ms) // _BUCKET_MS
        for bucket in sorted(self.buckets):
            if bucket >= horizon and len(self.contents) <= self.entries_max:
                break
            for key, event in self.buckets.pop(bucket):
                self.contents.pop(key, None)
                self.purposes.pop(event, None)

    def dump(self) -> dict[str, Any]:
        """A copy as flat bytes, for a snapshot."""
        flat = [(at, key, event) for at, pairs in self.buckets.items() for key, event in pairs]
        keys = [key for _, key, _ in flat]
        return {
            "at": np.array([at for at, _, _ in flat], np.int64).tobytes(),
            "key": np.array(keys, np.uint64).tobytes(),
            "content": np.array([self.contents[key] for key in keys], np.uint64).tobytes(),
            "event": np.array([event for _, _, event in flat], np.uint64).tobytes(),
            "purpose": np.array(
                [self.purposes[event] for _, _, event in flat], np.uint16
            ).tobytes(),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        ats = np.frombuffer(dumped["at"], np.int64).tolist()
        keys = np.frombuffer(dumped["key"], np.uint64).tolist()
        contents = np.frombuffer(dumped["content"], np.uint64).tolist()
        events = np.frombuffer(dumped["event"], np.uint64).tolist()
        purposes = np.frombuffer(dumped["purpose"], np.uint16).tolist()
        self.contents = dict(zip(keys, contents, strict=True))
        self.purposes = dict(zip(events, purposes, strict=True))
        self.buckets = {}
        for at, key, event in zip(ats, keys, events, strict=True):
            self.buckets.setdefault(at, []).append((key, event))
