"""A follower that keeps what it was given, and routed records as another flow reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.blocks import AcceptedBlock, Followed, Origin, OutRecord, RawBlock, Rows


class Keeper:
    """Counts events by journey, and publishes each count; keeps the zones of profiles apart.

    State: the counts; profiles are given again at each start.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.zones: dict[str, str] = {}

    def follow(self, block: AcceptedBlock) -> Followed:
        if block.topic == "ntf.profiles.v1":
            self.zones.update(zip(block.subjects, block.zones, strict=True))
            for subject in block.gone:
                self.zones.pop(subject, None)
            return Followed([], [], [])
        records, lines = [], []
        for place, journey in enumerate(block.journeys):
            self.counts[journey] = self.counts.get(journey, 0) + 1
            origin = Origin(block.topic, block.partitions[place], block.offsets[place], 1)
            zone = self.zones.get(block.subjects[place], "")
            said = f"{journey} {self.counts[journey]} {zone}".encode()
            records.append(OutRecord("kept", block.ids[place].encode(), said, [], origin))
            lines.append((journey, self.counts[journey], block.watermark_ms))
        columns = dict(zip(("journey", "n", "ver"), zip(*lines, strict=True), strict=True))
        return Followed(records, list(records), [Rows("kept", len(lines), columns)])

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self.counts)

    def load(self, dumped: bytes) -> None:
        self.counts = msgspec.msgpack.decode(dumped)


def routed_blocks(records: Iterable[OutRecord], *, lane: int, received_ms: int) -> list[RawBlock]:
    """Published records as a lane of another flow reads them, a block for each run of one topic."""
    offsets: dict[str, int] = defaultdict(int)
    runs: list[list[OutRecord]] = []
    for record in records:
        if not record.topic.startswith("ntf.routed"):
            continue
        if not runs or runs[-1][0].topic != record.topic:
            runs.append([])
        runs[-1].append(record)
    found = []
    for run in runs:
        topic, size = run[0].topic, len(run)
        columns: dict[str, Any] = {
            "partitions": [lane] * size,
            "offsets": list(range(offsets[topic], offsets[topic] + size)),
            "timestamps": [received_ms] * size,
            "keys": [record.key for record in run],
            "headers": [list(record.headers) for record in run],
            "values": [record.value for record in run],
        }
        offsets[topic] += size
        found.append(RawBlock(lane=lane, topic=topic, received_ms=received_ms, **columns))
    return found
