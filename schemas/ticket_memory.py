"""Tickets by column, out of a library's memory: what it found plainly right, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from schemas.fates import Refusal
from schemas.policy import RANK_OF_A_PERSON
from schemas.ticket import Label
from schemas.tickets import NO_LABEL, Tickets

LabelOf = Callable[[tuple[bytes | None, ...]], Label | Refusal]


class MemoryReader:
    """Reads headers that bring their own scanner; others are not its concern.

    State: the labels by the scanner's numbers, bounded by it.
    """

    def __init__(self, label_of: LabelOf) -> None:
        self._label_of: Final = label_of
        self._scanner: Any = None
        self._labels: list[Label | Refusal] = []

    def read(self, headers: Sequence[Any]) -> tuple[Tickets, list[int]] | None:
        """The tickets of a block, and the places of messages that have to be read one by one.

        Shapes: None for headers without a scanner.
        """
        make_scanner = getattr(headers, "scanner", None)
        if make_scanner is None:
            return None
        if self._scanner is None:
            self._scanner = make_scanner()
        used, fresh, again, alone, arrays, memory = self._scanner.scan(headers)
        if again:
            self._labels.clear()
        self._labels.extend(map(self._label_of, fresh))
        labels: list[Label] = []
        # The last one answers for NO_LABEL, which is -1.
        numbers_of, personal = [NO_LABEL] * (len(used) + 1), [False] * (len(used) + 1)
        for number, known in enumerate(used):
            label = self._labels[known]
            if isinstance(label, Label):
                numbers_of[number] = len(labels)
                personal[number] = label.decision.rank >= RANK_OF_A_PERSON
                labels.append(label)
        found, times_ms, recorded_ms, expiry_ms, named = (
            np.frombuffer(array, np.int64) for array in arrays
        )
        numbers = np.array(numbers_of, np.int64)[found]
        if len(labels) < len(used):
            alone += np.flatnonzero((numbers == NO_LABEL) & (found != NO_LABEL)).tolist()
        if any(personal):
            nobody = np.array(personal, np.bool_)[found] & (named == 0)
            alone += np.flatnonzero(nobody).tolist()
        lists = memory.texts()
        tickets = Tickets(
            labels=labels,
            numbers=numbers,
            ids=lists[0],
            times_ms=times_ms,
            correlations=lists[1],
            subjects=lists[2],
            causations=lists[3],
            hops=lists[4],
            recorded_ms=recorded_ms,
            expiry_ms=expiry_ms,
            traceparents=lists[5],
            tracestates=lists[6],
            macs=lists[7],
            rests=lists[8],
            memory=memory,
        )
        return tickets, alone
