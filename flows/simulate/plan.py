"""The plan of a run: which fault comes at which place, in exact numbers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from flows.simulate.faults import MALFORMED, MISLABELLED, Fault
from flows.simulate.oddities import ODDITIES
from schemas.errors import ConfigError

EVERY_KIND_FROM: Final = 5_000
"""Messages from which on every kind of every family comes at least once."""

REPEAT: Final = "repeat"
CONFLICT: Final = "conflict"
MISUSED: Final = "misused"
LATE: Final = "late"
TOO_LATE: Final = "too_late"
OUT_OF_ORDER: Final = "out_of_order"

FAULTS: Final[dict[str, Fault]] = {
    fault.kind: fault for fault in (*MALFORMED, *MISLABELLED, *ODDITIES)
}

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "malformed": (*(fault.kind for fault in MALFORMED), MISUSED),
    "mislabelled": tuple(fault.kind for fault in MISLABELLED),
    "duplicate": (REPEAT, REPEAT, REPEAT, CONFLICT),
    "late": (LATE,),
    "too_late": (TOO_LATE,),
    "out_of_order": (OUT_OF_ORDER,),
    "odd": tuple(fault.kind for fault in ODDITIES),
}
"""The kinds of each family of faults."""


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the traffic is wrong in which way. Units: shares of all messages, 0 to 1."""

    malformed: float = 0.01
    mislabelled: float = 0.005
    duplicate: float = 0.01
    late: float = 0.01
    too_late: float = 0.002
    out_of_order: float = 0.02
    odd: float = 0.003


def counts_of(shares: Shares, messages: int) -> dict[str, int]:
    """How many messages of each family a run has."""
    counts = {}
    for family, kinds in KINDS.items():
        share = getattr(shares, family)
        count = round(share * messages)
        every = len(kinds) if share > 0 and messages >= EVERY_KIND_FROM else 0
        counts[family] = max(count, every)
    return counts


def make_plan(rng: Random, *, shares: Shares, messages: int, places: int) -> dict[int, str]:
    """Spread the faults over the places of the stream: place → kind.

    Shapes: none in the first and the last part, so that what a fault needs has come before it
    and what it leads to still comes.
    Errors: ConfigError when there is not enough room for them.
    """
    kinds = [
        kind
        for family, count in counts_of(shares, messages).items()
        for kind in _deal(rng, KINDS[family], count)
    ]
    room = range(places // 50, places - places // 14)
    if len(kinds) > len(room):
        raise ConfigError(
            do="plan",
            kind="faults",
            found=f"{len(kinds)} faults for {len(room)} places",
            hint="lower the shares",
        )
    rng.shuffle(kinds)
    return dict(zip(rng.sample(room, len(kinds)), kinds, strict=True))


def _deal(rng: Random, kinds: Sequence[str], count: int) -> list[str]:
    """Deal kinds evenly; rare ones are in the first round only."""
    dealt: list[str] = []
    deck = list(kinds)
    while len(dealt) < count:
        rng.shuffle(deck)
        dealt += deck
        deck = [kind for kind in deck if kind not in FAULTS or not FAULTS[kind].rare]
    return dealt[:count]
