"""Count what the interpreter does for each message of a block: calls and bytecode instructions.

No clock: the same code gives the same counts on every machine. What a block costs once falls out,
since the counts of a small block are taken from those of a large one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NamedTuple

from schemas.blocks import RawBlock
from tests.bench.corpus import TOPIC, Corpus, Sample

SMALL: Final = 500
LARGE: Final = 1_000  # five hundred more: each kind of fault once
START_MS: Final = 1_800_000_000_000


class Effort(NamedTuple):
    """What one message costs. Units: calls of Python and C functions, instructions."""

    calls: float
    instructions: float


def raw_block(messages: int, *, start_ms: int = START_MS) -> RawBlock:
    """The first messages of the corpus as one block, as a lane would give them."""
    return block_of(list(Corpus(messages, start_ms=start_ms).samples()))


def block_of(samples: list[Sample]) -> RawBlock:
    """These messages as one block."""
    offsets: dict[int, int] = {}
    places = []
    for sample in samples:
        offsets[sample.partition] = offsets.get(sample.partition, -1) + 1
        places.append(offsets[sample.partition])
    return RawBlock(
        lane=0,
        topic=TOPIC,
        received_ms=max(sample.timestamp_ms for sample in samples) + 1_000,
        partitions=[sample.partition for sample in samples],
        offsets=places,
        timestamps=[sample.timestamp_ms for sample in samples],
        keys=[sample.key for sample in samples],
        headers=[list(sample.headers) for sample in samples],
        values=[sample.value for sample in samples],
    )


def effort_of(work: Callable[[Any], object], prepare: Callable[[int], Any]) -> Effort:
    """The effort of one message more in what `work` does with the block of `prepare`."""
    for size in (SMALL, LARGE):
        work(prepare(size))  # the caches are warm, as they are in a running lane
    small, large = (_count(work, prepare(size)) for size in (SMALL, LARGE))
    more = LARGE - SMALL
    return Effort(
        calls=round((large[0] - small[0]) / more, 2),
        instructions=round((large[1] - small[1]) / more, 1),
    )


def _count(work: Callable[[Any], object], block: Any) -> tuple[int, int]:
    calls = instructions = 0

    def profile(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal instructions
        if event == "call":
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
        elif event == "opcode":
            instructions += 1
        return trace

    before = sys.getprofile(), sys.gettrace()
    sys.setprofile(profile)
    sys.settrace(trace)
    try:
        work(block)
    finally:
        sys.settrace(before[1])
        sys.setprofile(before[0])
    return calls, instructions
