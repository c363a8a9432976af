"""Limit the quarantine: past a run or a share of refused messages, going on is an outage.

One bad message is its producer's matter; a partition or a lane of nothing else is ours. The worker
stops before anything of the block that passes a limit has left, so never do more messages go to
the quarantine than the limit allows, unless a person raises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.steps.write_facts import Refused
from schemas.blocks import RawBlock
from schemas.codes import Door
from schemas.errors import PermanentError

Places = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint16]
"""Codes as numbers, T303 as 303; 0 where a message was not quarantined."""

_ROUNDING: Final = 1e-9


class LimitRules(msgspec.Struct, frozen=True):
    """What a lane may quarantine. Units: messages; `share_max` is a ratio, 0 to 1."""

    run_max: int
    share_max: float
    window: int

    @property
    def window_max(self) -> int:
        """Messages that may be quarantined among any `window` of a lane in a row."""
        return int(self.share_max * self.window + _ROUNDING)


class Run(msgspec.Struct, frozen=True):
    """Messages that a partition quarantined in a row: how many, since where, and why."""

    count: int
    first_offset: int
    codes: dict[str, int]


class QuarantineLimit:
    """Counts of one lane: the open run of each partition, and the last quarantined of the lane.

    How the messages are cut into blocks changes nothing, and no clock is asked. Messages that
    were dropped or are late end a run: they could be read and judged.
    State: a run for each partition; at most `window_max` ordinals and codes.
    Errors: PermanentError for the first block that passes a limit; no use of the lane after it.
    """

    def __init__(self, rules: LimitRules) -> None:
        self._rules = rules
        self._runs: dict[tuple[str, int], Run] = {}
        self._decided = 0
        self._ordinals: Places = np.zeros(0, np.int64)
        self._numbers: Numbers = np.zeros(0, np.uint16)

    @property
    def longest_run(self) -> int:
        """The longest run that is open in any partition."""
        return max((run.count for run in self._runs.values()), default=0)

    @property
    def share(self) -> float:
        """The share of quarantined messages among the last `window`."""
        return (len(self._ordinals) - self._outside()) / self._rules.window

    def count(
        self,
        raw: RawBlock,
        accepted: Sequence[int],
        refused: Sequence[tuple[int, Refused]],
    ) -> None:
        """Count the messages of a block that were decided now, by their places in it."""
        bad = {
            place: int(message.refusal.code[1:])
            for place, message in refused
            if message.refusal.door is Door.QUARANTINED
        }
        if bad or any((raw.topic, part) in self._runs for part in {*raw.partitions}):
            numbers = np.zeros(len(raw.offsets), np.uint16)
            numbers[list(bad)] = list(bad.values())
            places = _decided_places(len(numbers), accepted, refused)
            self._count_runs(raw, places, numbers[places])
            self._count_share(raw, places, numbers[places])
        self._decided += len(accepted) + len(refused)

    def _count_runs(self, raw: RawBlock, places: Places, numbers: Numbers) -> None:
        parts = np.array(raw.partitions, np.int64)[places]
        for part in np.unique(parts).tolist():
            mine = parts == part
            self._count_run(raw, part, places[mine], numbers[mine])

    def _count_run(self, raw: RawBlock, part: int, places: Places, numbers: Numbers) -> None:
        """Follow one partition from one message that ends its run to the next one."""
        open_run = self._runs.pop((raw.topic, part), None)
        edges = np.concatenate(([-1], np.flatnonzero(numbers == 0), [len(numbers)]))
        lengths = np.diff(edges) - 1
        lengths[0] += open_run.count if open_run else 0
        longest, last = int(lengths.argmax()), len(lengths) - 1
        for at in (longest, last):
            if lengths[at]:
                within = slice(edges[at] + 1, edges[at + 1])
                offsets = [raw.offsets[place] for place in places[within].tolist()]
                run = _extend(open_run if at == 0 else None, offsets, numbers[within])
                if run.count > self._rules.run_max:
                    raise _run_passed(run, raw, part, self._rules)
                if at == last:
                    self._runs[raw.topic, part] = run

    def _count_share(self, raw: RawBlock, places: Places, numbers: Numbers) -> None:
        """Slide the window over the block; it is fullest at one of the quarantined."""
        ranks = np.flatnonzero(numbers)
        if not len(ranks):
            return
        self._forget()
        before = len(self._ordinals)
        self._ordinals = np.concatenate((self._ordinals, self._decided + ranks))
        self._numbers = np.concatenate((self._numbers, numbers[ranks]))
        oldest = self._ordinals[before:] - self._rules.window
        begins = np.searchsorted(self._ordinals, oldest, side="right")
        ends = np.arange(before, len(self._ordinals)) + 1
        passed = np.flatnonzero(ends - begins > self._rules.window_max)
        if len(passed):
            at = int(passed[0])
            codes = _count_codes(self._numbers[begins[at] : ends[at]])
            raise _share_passed(codes, raw, int(places[ranks[at]]), self._rules)

    def _outside(self) -> int:
        """How many of the ordinals have left the window."""
        return int(np.searchsorted(self._ordinals, self._decided - self._rules.window))

    def _forget(self) -> None:
        outside = self._outside()
        self._ordinals = self._ordinals[outside:]
        self._numbers = self._numbers[outside:]

    def dump(self) -> dict[str, Any]:
        """A copy for a snapshot."""
        self._forget()
        return {
            "decided": self._decided,
            "ordinals": self._ordinals.tobytes(),
            "codes": self._numbers.tobytes(),
            "runs": [
                [*where, run.count, run.first_offset, run.codes]
                for where, run in self._runs.items()
            ],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave; the limits may be others now."""
        self._decided = dumped["decided"]
        self._ordinals = np.frombuffer(dumped["ordinals"], np.int64)
        self._numbers = np.frombuffer(dumped["codes"], np.uint16)
        self._runs = {(topic, part): Run(*run) for topic, part, *run in dumped["runs"]}


def _decided_places(
    size: int, accepted: Sequence[int], refused: Sequence[tuple[int, Any]]
) -> Places:
    """The places of a block but for those that were decided before the last snapshot."""
    if len(accepted) + len(refused) == size:
        return np.arange(size)
    return np.array(sorted((*accepted, *(place for place, _ in refused))), np.int64)


def _count_codes(numbers: Numbers) -> dict[str, int]:
    return dict(Counter(f"T{number}" for number in numbers.tolist()))


def _extend(run: Run | None, offsets: list[int], numbers: Numbers) -> Run:
    codes = _count_codes(numbers)
    if run is None:
        return Run(len(offsets), offsets[0], codes)
    codes = {
        code: run.codes.get(code, 0) + codes.get(code, 0) for code in sorted({*run.codes, *codes})
    }
    return Run(run.count + len(offsets), run.first_offset, codes)


def _in_words(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))


def _hint(variable: str) -> str:
    return (
        "nothing is lost, the block is decided again at the next start: mend the producer or the"
        f" policy, then raise {variable} to let these messages into the quarantine"
    )


def _run_passed(run: Run, raw: RawBlock, part: int, rules: LimitRules) -> PermanentError:
    return PermanentError(
        do="go on with",
        kind="partition",
        name=f"{raw.topic}/{part}",
        where=f"of lane {raw.lane}",
        found=f"{run.count} messages to quarantine in a row since offset {run.first_offset}"
        f" ({_in_words(run.codes)})",
        expected=f"at most {rules.run_max}",
        hint=_hint("AIRSIDE_LIMIT__RUN_MAX"),
    )


def _share_passed(
    codes: Mapping[str, int], raw: RawBlock, place: int, rules: LimitRules
) -> PermanentError:
    return PermanentError(
        do="go on with",
        kind="partition",
        name=f"{raw.topic}/{raw.partitions[place]}",
        where=f"of lane {raw.lane} at offset {raw.offsets[place]}",
        found=f"{sum(codes.values())} of the lane's last {rules.window} messages to quarantine"
        f" ({_in_words(codes)})",
        expected=f"at most {rules.window_max}",
        hint=_hint("AIRSIDE_LIMIT__SHARE_MAX"),
    )
