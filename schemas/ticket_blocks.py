"""Read the tickets of a whole block by column.

What a column check passes is right; what it does not pass is suspect, and is read again alone by
the reader, which says what is wrong with it. So the two can differ in speed only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from schemas.columns import (
    TIME_BYTES_MAX,
    WORD_BYTES_MAX,
    Fits,
    are_ids,
    are_names,
    are_plain,
    are_traces,
    parse_canonical,
    parse_times,
    split_words,
    strangers,
)
from schemas.fates import Refusal
from schemas.header_runs import Group
from schemas.hops import HOPS_BYTES_MAX, parse_hops
from schemas.policy import RANK_OF_A_PERSON
from schemas.ticket import LABEL_NAMES, Label
from schemas.tickets import NO_LABEL, NO_TIME, Numbers, Tickets

LabelOf = Callable[[tuple[bytes | None, ...]], Label | Refusal]

_SHARED: Final = frozenset(LABEL_NAMES)


class Reading:
    """One group on its way from headers to tickets: its columns, and which places are suspect.

    Units: `bytes_max` is the most that the values read so far can have together in one message.
    """

    def __init__(self, found: Group, places: Mapping[str, int]) -> None:
        self._found, self._places, self._size = found, places, len(found)
        self._own = {name: place for name, place in places.items() if name not in _SHARED}
        self.suspects: set[int] = set()
        self.bytes_max = 0
        for place in self._own.values():
            self.suspects.update(found.nulls(place))

    def words(self, name: str, fits: Fits, bytes_max: int = WORD_BYTES_MAX) -> list[str]:
        """A column of texts; empty where there is none, or a suspect one."""
        place = self._own.get(name)
        if place is None:
            return [""] * self._size
        self.bytes_max += bytes_max
        joined = self._found.joined(place)
        if joined is None or not fits(joined, self._size):
            values = self._found.column(place)
            strange = strangers(values, fits)
            self.suspects.update(strange)
            for at in strange:
                values[at] = b""
            joined = b"\n".join(value or b"" for value in values)
        return split_words(joined)

    def times(self, name: str) -> Numbers:
        """A column of times; `NO_TIME` where there is none, or a suspect one."""
        place = self._own.get(name)
        if place is None:
            return np.full(self._size, NO_TIME, np.int64)
        self.bytes_max += TIME_BYTES_MAX
        joined = self._found.joined(place)
        found = parse_canonical(joined, self._size)
        if found is None:
            found = parse_times(self._found.column(place))
        self.suspects.update(np.flatnonzero(found == NO_TIME).tolist())
        return found

    def hops(self) -> list[str]:
        """The histories; those that are not in the grammar are suspect."""
        found = self.words("ce_datahops", are_plain, HOPS_BYTES_MAX)
        if "ce_datahops" in self._own:
            wrong = {text for text in set(found) if not _are_hops(text)}
            if wrong:
                self.suspects.update(at for at, text in enumerate(found) if text in wrong)
        return found

    def traces(self) -> tuple[list[bytes | None], list[bytes | None]]:
        """Parents and states of traces. W3C: one that cannot be read is not passed on."""
        parents, states = self.plain("traceparent"), self.plain("tracestate")
        place = self._own.get("traceparent")
        if place is None:
            return parents, [None] * self._size
        joined = self._found.joined(place)
        if joined is None or not are_traces(joined, self._size):
            for at in strangers(parents, are_traces):
                parents[at] = states[at] = None
        return parents, states

    def plain(self, name: str) -> list[bytes | None]:
        """A column of bytes as it is."""
        place = self._own.get(name)
        if place is None:
            return [None] * self._size
        values = self._found.column(place)
        self.bytes_max += max(map(len, filter(None, values)), default=0)
        return values

    def labels(self, names: Sequence[str], label_of: LabelOf) -> tuple[list[Label], Numbers]:
        """The labels, each once, and the number of each message's; refused ones are suspect."""
        labels: list[Label] = []
        numbers: list[int] = []
        longest = 0
        order = [self._places.get(name) for name in names]
        for part in self._found.parts:
            numbers.append(NO_LABEL)
            if None in part:
                continue
            given = dict(zip(self._found.shared, part, strict=True))
            label = label_of(tuple(None if place is None else given[place] for place in order))
            longest = max(longest, sum(len(value or b"") for value in part))
            if not isinstance(label, Refusal) and not self._lacks_subject(label):
                numbers[-1] = len(labels)
                labels.append(label)
        self.bytes_max += longest
        found = np.array(numbers, np.int64)[np.concatenate(self._found.numbers)]
        self.suspects.update(np.flatnonzero(found == NO_LABEL).tolist())
        return labels, found

    def _lacks_subject(self, label: Label) -> bool:
        return label.decision.rank >= RANK_OF_A_PERSON and "ce_subject" not in self._own

    def tickets(self, names: Sequence[str], label_of: LabelOf) -> Tickets:
        """The tickets; those at suspect places mean nothing."""
        labels, numbers = self.labels(names, label_of)
        parents, states = self.traces()
        return Tickets(
            labels=labels,
            numbers=numbers,
            ids=self.words("ce_id", are_ids),
            times_ms=self.times("ce_time"),
            correlations=self.words("ce_correlationid", are_names),
            subjects=self.words("ce_subject", are_names),
            causations=self.words("ce_causationid", are_names),
            hops=self.hops(),
            recorded_ms=self.times("ce_recordedtime"),
            expiry_ms=self.times("ce_expirytime"),
            traceparents=parents,
            tracestates=states,
            macs=self.plain("ce_ticketmac"),
            rests=[()] * self._size,
        )


@lru_cache(maxsize=8_192)
def _are_hops(text: str) -> bool:
    return not isinstance(parse_hops(text), Refusal)
