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


def read_shares(text: str | None) -> Shares:
    """Read shares as a person gives them: one for all faults together, or some by name, or none.

    Errors: ConfigError for a name that is no family, or a share that is not from 0 to 1.

    >>> read_shares("late=0.2,odd=0") == Shares(late=0.2, odd=0.0)
    True
    >>> round(sum(msgspec.structs.astuple(read_shares("0.5"))), 9)
    0.5
    """
    if text is None:
        return Shares()
    usual = msgspec.structs.asdict(Shares())
    if "=" not in text:
        factor = _read_share("all", text) / sum(usual.values())
        return Shares(**{family: share * factor for family, share in usual.items()})
    named = {}
    for part in text.split(","):
        family, _, share = (word.strip() for word in part.partition("="))
        if family not in usual:
            raise _no_share("a name that is none", ", ".join(usual))
        named[family] = _read_share(family, share)
    return Shares(**{**usual, **named})


def _read_share(family: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise _no_share(f"no share for {family}", "a number from 0 to 1")
    return share


def _no_share(found: str, expected: str) -> ConfigError:
    return ConfigError(
        do="read",
        kind="faults",
        found=found,
        expected=expected,
        hint="for example 0.1, or malformed=0.05,late=0",
    )


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
