"""The hop history of a ticket: every gate that a message went through, and when.

Grammar: `hop = stage "." node "." delta acts`, joined by `>`. The delta is milliseconds since the
recorded time, in base 36 with capital letters; the acts are small letters, so that the two can
be told apart (`5p` is 5 ms and one act, `5P` is 205 ms and none). `~n` stands for n hops that
were left out of the middle of a long history.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.fates import Refusal
from schemas.few import are_few

Numbers = npt.NDArray[np.int64]

STAGES: Final = frozenset(
    ("in", "va", "en", "sc", "tr", "ro", "de", "or", "dl", "ag", "si", "rp", "ex")
)
"""ingress, validate, enrich, scan, treat, route, decide, orchestrate, deliver, aggregate, sink,
replay, export."""

REPLAY_STAGE: Final = "rp"

ACTS: Final = frozenset("pmdteulqr")
"""pseudonymised, masked, dropped, tokenised, encrypted, raised, lowered, quarantined, replayed."""

HOPS_BYTES_MAX: Final = 256
KEPT_FIRST: Final = 2
KEPT_LAST: Final = 8

_HOP: Final = re.compile(r"([a-z]{2})\.([a-z0-9_-]{1,16})\.([0-9A-Z]{1,11})([a-z]{0,9})")
_GAP: Final = re.compile(r"~[1-9][0-9]{0,5}")
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Hop(NamedTuple):
    """One gate. Units: `delta_ms` since the recorded time."""

    stage: str
    node: str
    delta_ms: int
    acts: str


_PAIRS: Final = [a + b for a in _DIGITS for b in _DIGITS]
_SHORT: Final = [pair.lstrip("0") or "0" for pair in _PAIRS]


def base36(number: int) -> str:
    """Write a number with the digits 0-9 A-Z, two at a time; negative ones count as 0.

    >>> [base36(number) for number in (-1, 205, 1_296, 10**9)]
    ['0', '5P', '100', 'GJDGXS']
    """
    if number < len(_PAIRS):
        return _SHORT[max(number, 0)]
    high, low = divmod(number, len(_PAIRS))
    return base36(high) + _PAIRS[low]


def base36_all(numbers: Numbers) -> list[str]:
    """The same of many numbers."""
    if are_few(numbers):
        return list(map(base36, numbers.tolist()))
    high, low = np.divmod(np.maximum(numbers, 0), len(_PAIRS))
    if high.max(initial=0) >= len(_PAIRS):
        return [base36(number) for number in numbers.tolist()]
    pairs = zip(high.tolist(), low.tolist(), strict=True)
    return [_SHORT[above] + _PAIRS[below] if above else _SHORT[below] for above, below in pairs]


def parse_hops(text: str) -> list[Hop] | Refusal:
    """Read a history; the gap marker is skipped.

    Errors: none raised. T501 for what is not in the grammar, T502 for a history that is too long
    or went through the same gate twice without a replay between.

    >>> parse_hops("in.c1.0>en.e1.5p")
    [Hop(stage='in', node='c1', delta_ms=0, acts=''), Hop(stage='en', node='e1', delta_ms=5, acts='p')]
    """  # noqa: E501 - the real output
    if len(text) > HOPS_BYTES_MAX:
        return Refusal("T502", "/ce_datahops", f"expected at most {HOPS_BYTES_MAX} bytes")
    hops: list[Hop] = []
    been: set[tuple[str, str]] = set()
    for part in text.split(">"):
        if _GAP.fullmatch(part):
            continue
        match = _HOP.fullmatch(part)
        if match is None or match[1] not in STAGES or not ACTS.issuperset(match[4]):
            return Refusal("T501", "/ce_datahops", "expected stage.node.delta joined by >")
        hop = Hop(match[1], match[2], int(match[3], 36), match[4])
        if hop.stage == REPLAY_STAGE:
            been.clear()
        elif hop[:2] in been:
            return Refusal("T502", "/ce_datahops", "expected each gate once between replays")
        been.add(hop[:2])
        hops.append(hop)
    return hops


def clock_went_back(hops: list[Hop]) -> bool:
    """Tell whether a later hop has a smaller delta than an earlier one (T504, a warning).

    >>> clock_went_back([Hop("in", "a", 5, ""), Hop("ro", "a", 4, "")])
    True
    """
    return any(after.delta_ms < before.delta_ms for before, after in pairwise(hops))


def append_hop(text: str, hop: Hop) -> str:
    """Add one gate to a history; a long one keeps its first two and last eight hops.

    Shapes: never more than `HOPS_BYTES_MAX` bytes for a history that was within it.

    >>> append_hop("in.c1.0", Hop("ro", "c1", 46, ""))
    'in.c1.0>ro.c1.1A'
    """
    added = f"{hop.stage}.{hop.node}.{base36(hop.delta_ms)}{hop.acts}"
    if not text:
        return added
    longer = f"{text}>{added}"
    if len(longer) <= HOPS_BYTES_MAX:
        return longer
    parts = longer.split(">")
    gone = sum(int(part[1:]) for part in parts if part.startswith("~"))
    parts = [part for part in parts if not part.startswith("~")]
    last = KEPT_LAST
    while True:
        left_out = max(len(parts) - KEPT_FIRST - last, 0) + gone
        marker = [f"~{left_out}"] if left_out else []
        short = ">".join(
            [*parts[:KEPT_FIRST], *marker, *parts[max(len(parts) - last, KEPT_FIRST) :]]
        )
        if len(short) <= HOPS_BYTES_MAX or last == 1:
            return short
        last -= 1
