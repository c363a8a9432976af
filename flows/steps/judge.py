"""Judge messages that are right in themselves against what their lane remembers.

A block is looked at as a whole first: what is certain to pass is remembered by column, and only
what may be refused is judged alone, at its place in the order. Of a few, each is judged alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.steps.accept import PROFILE_TOPIC
from flows.steps.deduplicate import Memory, Sight, salt_of
from flows.steps.enrich import ProfileTable
from flows.steps.keep import Kept
from flows.steps.slots import Hashes, repeated
from schemas.blocks import CheckedBlock
from schemas.columns import encode_all
from schemas.fates import Refusal
from schemas.few import are_few
from schemas.hops import REPLAY_STAGE, parse_hops
from schemas.policy import Policy
from schemas.rollup import MINUTE_MS
from schemas.ticket import hash64
from schemas.tickets import NO_LABEL, Numbers, Tickets, columns_at

Mask = npt.NDArray[np.bool_]
Purposes = npt.NDArray[np.uint16]

_RUN_MIN: Final = 8
_NO_PURPOSE: Final = -1


class Candidates(msgspec.Struct, gc=False):
    """Messages to judge, by column. Units: milliseconds; `keys`, `events`, `contents` are hashes.

    Shapes: `places` in the block rise; every other column has as many values.
    """

    places: Sequence[int]
    tickets: Tickets
    partitions: Numbers
    recorded_ms: Numbers
    keys: Hashes
    events: Hashes
    contents: Hashes
    purposes: Purposes


class Judge:
    """What a lane remembers, and the refusals that follow from it.

    Units: milliseconds; `floor_minute` in minutes since 1970: no event before it is accepted.
    """

    def __init__(
        self,
        policy: Policy,
        profiles: ProfileTable,
        memory: Memory,
        *,
        lateness_ms_max: int,
        gate: tuple[str, str],
    ) -> None:
        self._policy = policy
        self._profiles = profiles
        self._lateness_ms_max = lateness_ms_max
        self._gate = gate
        self.memory = memory
        self.kept = Kept(memory)
        self.newest: dict[tuple[str, int], int] = {}
        self.floor_minute = 0
        self.names = list(policy.purposes)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def rename(self, names: Sequence[str]) -> None:
        """Take over the numbers of purposes from a saved state; new purposes follow them."""
        self.names = [*names, *(name for name in self.names if name not in names)]
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def candidates(self, block: CheckedBlock, places: Sequence[int]) -> Candidates:
        """What the judgement of these places needs. Shapes: each has a ticket and a body."""
        raw = block.raw
        take = columns_at(places, len(raw.offsets))
        tickets = block.tickets.at(places)
        labels = tickets.labels
        events, contents = _hashes(block, places, tickets)
        salts = np.array([salt_of(label.identity) for label in labels], np.uint64)
        purposes = np.array([self._numbers[label.purpose] for label in labels], np.uint16)
        return Candidates(
            places=places,
            tickets=tickets,
            partitions=np.array(take(raw.partitions), np.int64),
            recorded_ms=np.array(take(raw.timestamps), np.int64),
            keys=events + salts[tickets.numbers],
            events=events,
            contents=contents,
            purposes=purposes[tickets.numbers],
        )

    def decide(
        self, block: CheckedBlock, places: Sequence[int]
    ) -> tuple[dict[int, Refusal], Tickets]:
        """The refusals among these places; the others are accepted, and remembered.

        Shapes: and the tickets of all these places.
        """
        refusals: dict[int, Refusal] = {}
        found = self.candidates(block, places)
        if not places:
            return refusals, found.tickets
        first = 0
        suspects: Sequence[int] = range(len(places))
        if len(places) >= _RUN_MIN or not are_few(places):
            suspects = np.flatnonzero(self._suspects(block, found)).tolist()
        for at in (*suspects, len(places)):
            if at - first >= _RUN_MIN:
                self._remember(block.raw.topic, found, slice(first, at))
            else:
                for one in range(first, at):
                    self.judge(block, found, one)
            if at < len(places):
                refusal = self.judge(block, found, at)
                if refusal is not None:
                    refusals[places[at]] = refusal
            first = at + 1
        return refusals, found.tickets

    def _suspects(self, block: CheckedBlock, found: Candidates) -> Mask:
        """Which messages may be refused; of the others it is certain that they are not."""
        tickets, raw = found.tickets, block.raw
        decisions = [label.decision for label in tickets.labels]
        kept_ms = np.array([decision.retention_s * 1_000 for decision in decisions], np.int64)
        suspect: Mask = found.recorded_ms + kept_ms[tickets.numbers] <= raw.received_ms
        if raw.topic != PROFILE_TOPIC:
            suspect |= self._may_be_late(raw.topic, found)
        if any(tickets.hops):
            suspect |= np.array([self._is_back(text) for text in tickets.hops], np.bool_)
        if any(tickets.causations):
            suspect |= self._may_not_fit_its_cause(found)
        consent = np.array([decision.consent for decision in decisions], np.bool_)
        for at in np.flatnonzero(consent[tickets.numbers]).tolist():
            suspect[at] |= not self._has_consent(found, at)
        suspect |= self.memory.knows(found.keys)
        again = repeated(found.keys)
        return suspect | np.isin(found.keys, again) if again.size else suspect

    def _may_be_late(self, topic: str, found: Candidates) -> Mask:
        """Judged by the newest time that there can be before each, were all accepted."""
        times = found.tickets.times_ms
        newest = np.zeros_like(times)
        for part in np.unique(found.partitions).tolist():
            mine = found.partitions == part
            before = np.array([self.newest.get((topic, part), 0)])
            newest[mine] = np.maximum.accumulate(np.concatenate((before, times[mine])))[:-1]
        late: Mask = times < newest - self._lateness_ms_max
        return late | (times // MINUTE_MS < self.floor_minute)

    def _may_not_fit_its_cause(self, found: Candidates) -> Mask:
        """A cause may be remembered, or be accepted in this block."""
        causations = found.tickets.causations
        suspect = np.zeros(len(causations), np.bool_)
        caused = np.array([at for at, cause in enumerate(causations) if cause], np.int64)
        if repeated(found.events).size:
            suspect[caused] = True
            return suspect
        causes = _hash_all([causations[at].encode() for at in caused.tolist()])
        order = np.argsort(found.events)
        behind = np.searchsorted(found.events, causes, sorter=order)
        there = order[np.minimum(behind, len(order) - 1)]
        here = found.events[there] == causes
        known = self.memory.purposes_of(causes, unknown=_NO_PURPOSE)
        purposes = found.purposes[caused]
        suspect[caused] = self._do_not_fit(purposes, known)
        suspect[caused[here]] |= self._do_not_fit(
            purposes[here], found.purposes[there[here]].astype(np.int64)
        )
        return suspect

    def _do_not_fit(self, numbers: Purposes, causes: Numbers) -> Mask:
        """Which purposes their causes are not open to; those that are alike are judged once."""
        size = len(self.names)
        pairs, back = np.unique(causes * size + numbers, return_inverse=True)
        told = [divmod(pair, size) for pair in pairs.tolist()]
        fits = [cause == _NO_PURPOSE or self._fits(number, cause) for cause, number in told]
        return ~np.array(fits, np.bool_)[back]

    def _fits(self, number: int, cause_number: int) -> bool:
        purpose, cause = self.names[number], self.names[cause_number]
        known = self._policy.purposes.get(cause)
        # A purpose that has left the policy cannot be judged any more.
        return known is None or purpose == cause or purpose in known.compatible

    def _has_consent(self, found: Candidates, at: int) -> bool:
        """Without a subject there is nobody to ask."""
        subject = found.tickets.subjects[at]
        if not subject:
            return True
        profile = self._profiles.get(subject)
        return profile is not None and self.names[found.purposes.item(at)] in profile.granted

    def _is_back(self, text: str) -> bool:
        return bool(text) and is_back_at(text, *self._gate)

    def _remember(self, topic: str, found: Candidates, run: slice) -> None:
        """Accept neighbours that are certain to pass."""
        parts, times = found.partitions[run], found.tickets.times_ms[run]
        now_ms = np.empty_like(times)
        for part in np.unique(parts).tolist():
            mine = parts == part
            newest = self.newest.get((topic, part), 0)
            reached = np.maximum(np.maximum.accumulate(times[mine]), newest)
            now_ms[mine] = reached
            self.newest[topic, part] = int(reached[-1])
        self.memory.remember_all(
            keys=found.keys[run],
            events=found.events[run],
            contents=found.contents[run],
            purposes=found.purposes[run],
            at_ms=now_ms,
        )

    def judge(self, block: CheckedBlock, found: Candidates, at: int) -> Refusal | None:
        """Judge one candidate by what the lane remembers now, and remember it if it passes."""
        raw, tickets = block.raw, found.tickets
        where = (raw.topic, int(found.partitions[at]))
        newest = self.newest.get(where, 0)
        time_ms = int(tickets.times_ms[at])
        decision = tickets.labels[tickets.numbers[at]].decision
        kept_until_ms = int(found.recorded_ms[at]) + decision.retention_s * 1_000
        if kept_until_ms <= raw.received_ms:
            return Refusal("T405", "", "expected a record within its policy's retention")
        if raw.topic != PROFILE_TOPIC and self._is_too_late(time_ms, newest):
            return Refusal("T601", "/ce_time", "expected a time that late corrections reach")
        if self._is_back(tickets.hops[at]):
            return Refusal("T502", "/ce_datahops", "expected a replay hop before a second pass")
        now_ms = max(newest, time_ms)
        causation = tickets.causations[at]
        if causation:
            number = self.memory.purpose_of(hash64(causation.encode()), now_ms=now_ms)
            # Without a number the cause is of another lane, or forgotten.
            if number is not None and not self._fits(found.purposes.item(at), number):
                return Refusal("T206", "/ce_datapurpose", "expected a purpose its cause is open to")
        if decision.consent and not self._has_consent(found, at):
            return Refusal("T404", "/ce_datapurpose", "expected the person's consent")
        sight = self.memory.see_key(
            found.keys.item(at),
            event=found.events.item(at),
            content=found.contents.item(at),
            purpose=found.purposes.item(at),
            now_ms=now_ms,
        )
        if sight is Sight.REPEAT:
            return Refusal("T602", "/ce_id", "expected each event once")
        if sight is Sight.CONFLICT:
            return Refusal("T603", "/ce_id", "expected the content first sent under this id")
        self.newest[where] = now_ms
        return None

    def _is_too_late(self, time_ms: int, newest: int) -> bool:
        """Not asked of profiles: a person's last word counts, however long it was on its way."""
        return time_ms < newest - self._lateness_ms_max or time_ms // MINUTE_MS < self.floor_minute


def _hashes(block: CheckedBlock, places: Sequence[int], tickets: Tickets) -> tuple[Hashes, Hashes]:
    """Of each event the `hash64` of its id, and of its type, time and body.

    Shapes: `tickets` are those of the places. Where they are in a library's memory, it knows how.
    """
    every, values = block.tickets, block.raw.values
    kinds = [label.type.encode() + b"\0" for label in every.labels]
    if every.memory is not None:
        numbers = every.numbers
        if len(places) < len(numbers):
            numbers = np.full_like(numbers, NO_LABEL)  # what was refused may be large
            numbers[places] = every.numbers[places]
        times = every.times_ms.tobytes()
        found = every.memory.hashes(every.ids, values, kinds, numbers.tobytes(), times)
        events, contents = (np.frombuffer(one, "<u8") for one in found)
        if len(places) < len(numbers):
            return events[places], contents[places]
        return events, contents
    rows = zip(
        tickets.numbers.tolist(),
        tickets.times_ms.tolist(),
        columns_at(places, len(values))(values),
        strict=True,
    )
    told = [b"%b%d\0%b" % (kinds[number], at_ms, value or b"") for number, at_ms, value in rows]
    return _hash_all(encode_all(tickets.ids)), _hash_all(told)


def _hash_all(parts: Sequence[bytes]) -> Hashes:
    """The `hash64` of each."""
    joined = b"".join([blake2b(part, digest_size=8).digest() for part in parts])
    return np.frombuffer(joined, "<u8")


@lru_cache(maxsize=8_192)
def is_back_at(text: str, stage: str, node: str) -> bool:
    """Tell whether a history went through a gate since it was last replayed."""
    hops = parse_hops(text)
    if isinstance(hops, Refusal):
        return False  # the reader refuses such a ticket
    for hop in reversed(hops):
        if hop.stage == REPLAY_STAGE:
            return False
        if (hop.stage, hop.node) == (stage, node):
            return True
    return False
