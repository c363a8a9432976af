"""The gate: the one place where each message of a lane gets its door.

Everything that needs memory is decided here, in the order of the lane's blocks: lateness,
purpose limitation, consent, duplicates. What comes out is complete: records and rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Final

import msgspec
import numpy as np

from flows.steps.accept import PROFILE_TOPIC, accepted_events, tell_refused, to_follow
from flows.steps.close_cells import ClosedCells
from flows.steps.count_fates import Ledger, tally_of
from flows.steps.count_late import late_of, late_rows
from flows.steps.deduplicate import Memory
from flows.steps.enrich import Profile, ProfileTable
from flows.steps.judge import Judge
from flows.steps.keep import Kept
from flows.steps.limit import LimitRules, QuarantineLimit
from flows.steps.publish import STAGE, Publisher
from flows.steps.roll_up import Rollup
from flows.steps.upgrade import STATE_VERSION, read_state
from flows.steps.write_facts import Accepted, Refused, fact_rows, quarantine_rows
from schemas.blocks import CheckedBlock, Coded, Origin, Outputs, RawBlock, Rows, group
from schemas.codes import Door
from schemas.fates import Refusal
from schemas.few import are_few
from schemas.policy import RANK_OF_A_PERSON, Policy
from schemas.records import Records
from schemas.rollup import MINUTE_MS, Dimensions, buckets_of
from schemas.ticket import Ticket
from schemas.tickets import Numbers

PROFILE_TYPE: Final = "ntf.profile.updated.v1"
REFUSED_PROFILES_MAX: Final = 100_000
"""Profiles that the gate refused and that a re-read must not hold; the oldest go first."""


class GateRules(msgspec.Struct, frozen=True):
    """What the gate decides by.

    Units: milliseconds; `duplicates_max` counts events, `rollup_cells_max` open cells of a lane.
    """

    policy: Policy
    lateness_ms_max: int
    duplicate_ms_max: int
    duplicates_max: int
    limit: LimitRules
    rollup_cells_max: int = 1_000_000


class LaneGate:
    """One lane's memory, and the decision for each of its messages.

    State: a numbered snapshot of everything but the profile table, which is read again from its
    compacted topic at every start.
    Delivery: after a resume the same blocks lead to the same rows and records.
    Errors: PermanentError when a block passes the quarantine limit; nothing of it has left then.
    `followed`: what was accepted is given on as columns, too, for the steps that follow events.
    """

    def __init__(self, rules: GateRules, publisher: Publisher, *, followed: bool = False) -> None:
        self._rules = rules
        self._followed = followed
        self._publisher = publisher
        self.profiles = ProfileTable()
        self._judge = Judge(
            rules.policy,
            self.profiles,
            Memory(rules.duplicate_ms_max, rules.duplicates_max),
            lateness_ms_max=rules.lateness_ms_max,
            gate=(STAGE, publisher.node),
        )
        self.rollup = Rollup(rules.rollup_cells_max)
        self.ledger = Ledger()
        self.limit = QuarantineLimit(rules.limit)
        self.closed = ClosedCells()
        self._next: dict[tuple[str, int], int] = {}
        self._refused_profiles: dict[tuple[int, int], None] = {}

    @property
    def memory(self) -> Memory:
        """Which events were accepted."""
        return self._judge.memory

    @property
    def kept(self) -> Kept:
        """The memory as a part of the state, which grows with traffic."""
        return self._judge.kept

    @property
    def watermark_ms(self) -> int | None:
        """The event time that all but the quiet partitions have reached; None before the first.

        To the minute, and never less than before: it is as far ahead of the floor of closed cells
        as an event may be late.
        """
        floor = self._judge.floor_minute
        return floor * MINUTE_MS + self._rules.lateness_ms_max if floor else None

    def pass_block(self, block: CheckedBlock) -> Outputs:
        """Decide every message of a block, and give all that follows from it.

        Shapes: a message that was decided before the last snapshot is not decided again.
        """
        raw = block.raw
        fresh = self._fresh(raw)
        wrong = block.refusals
        held: list[int] = []
        tickets = None
        if raw.topic == PROFILE_TOPIC:
            refusals, profiles = self._decide_profiles(block, set(fresh), held)
        else:
            places = [place for place in fresh if place not in wrong] if wrong else fresh
            refusals, tickets = self._judge.decide(block, places)
            if refusals:
                tickets = None
            profiles = {}
        if wrong:
            refusals |= {place: wrong[place] for place in fresh if place in wrong}
        places = [place for place in fresh if place not in refusals] if refusals else fresh
        events = accepted_events(block, places, tickets)
        self._look_up(events, [profiles.get(place) for place in places] if profiles else None)
        refused = [(place, _refused(block, place, refusals[place])) for place in sorted(refusals)]
        self.limit.count(raw, places, refused)
        outputs = self._outputs(block, places, events, refused)
        # Last: a cell that this block still changed may be freed now, but not before.
        self._move_on(raw)
        if self._followed:
            zones = dict(zip(places, events.zones, strict=True))
            watermark_ms = self.watermark_ms or 0
            followed = to_follow(block, zones=zones, held=held, watermark_ms=watermark_ms)
            outputs = outputs._replace(accepted=followed)
        if self._followed and refused:
            told = Counter((message.source, message.refusal.code) for _, message in refused)
            return tell_refused(outputs, block, told)
        return outputs

    def _fresh(self, raw: RawBlock) -> Sequence[int]:
        """The places of messages that were not decided before; they are from now on."""
        ends = dict(zip(raw.partitions, raw.offsets, strict=True))
        known = {part: self._next.get((raw.topic, part), 0) for part in ends}
        begins = dict(zip(reversed(raw.partitions), reversed(raw.offsets), strict=True))
        places: Sequence[int] = range(len(raw.offsets))
        if any(begins[part] < after for part, after in known.items()):
            parts, offsets = raw.partitions, raw.offsets
            places = [place for place in places if offsets[place] >= known[parts[place]]]
        for part, last in ends.items():
            self._next[raw.topic, part] = max(last + 1, known[part])
        return places

    def _decide_profiles(
        self, block: CheckedBlock, fresh: set[int], held: list[int]
    ) -> tuple[dict[int, Refusal], dict[int, Profile | None]]:
        """One by one: each profile counts for what comes behind it."""
        right = [place for place in fresh if place not in block.refusals]
        right.sort()
        found = self._judge.candidates(block, right)
        numbers = {place: number for number, place in enumerate(right)}
        refusals: dict[int, Refusal] = {}
        profiles: dict[int, Profile | None] = {}
        for place, subject in enumerate(block.tickets.subjects):
            again = place not in fresh
            refusal = block.refusals.get(place)
            if not again and refusal is None:
                refusal = self._judge.judge(block, found, numbers[place])
                if refusal is not None:
                    refusals[place] = refusal
            if self._hold_profile(block, place, refusal, again=again):
                held.append(place)
            profiles[place] = self.profiles.get(subject)
        return refusals, profiles

    def _look_up(self, events: Accepted, profiles: list[Profile | None] | None) -> None:
        """Add what the profiles say, these or the ones that are known now.

        What is open to all does not show where a person lives, nor that we know them.
        """
        tickets = events.tickets
        of_persons = [label.decision.rank >= RANK_OF_A_PERSON for label in tickets.labels]
        personal = np.array(of_persons, np.bool_)[tickets.numbers]
        if profiles is None:
            profiles = self.profiles.get_all(tickets.subjects)
        if not any(profiles):
            events.unknown = personal
            return
        found = [
            profile if shown else None
            for profile, shown in zip(profiles, personal.tolist(), strict=True)
        ]
        events.zones = [profile.zone if profile else "" for profile in found]
        unknown = [profile is None for profile in found]
        events.unknown = personal & np.array(unknown, np.bool_)

    def _hold_profile(
        self, block: CheckedBlock, place: int, refusal: Refusal | None, *, again: bool
    ) -> bool:
        """Keep the table: every profile that was accepted or only expired, and every tombstone.

        Tells whether the table took it.

        A re-read holds the same ones: what was refused by what the gate knew then, or by the
        clock, is remembered by its place. What only expired is held at each reading: it counts
        as long as its topic keeps it.
        """
        raw = block.raw
        if raw.topic != PROFILE_TOPIC:
            return False
        where = (raw.partitions[place], raw.offsets[place])
        ticket, body = block.tickets[place], block.bodies[place]
        if refusal is not None and refusal.code == "T606":
            self.profiles.forget((raw.keys[place] or b"").decode("utf-8", "replace"))
            return True
        if body is not None and (refusal is None or refusal.code == "T405"):
            known = again and where in self._refused_profiles
            if ticket is not None and ticket.label.type == PROFILE_TYPE and not known:
                self.profiles.hold(body)
                return True
        elif not again and (body is not None or _by_clock(ticket, refusal)):
            self._refused_profiles[where] = None
            if len(self._refused_profiles) > REFUSED_PROFILES_MAX:
                self._refused_profiles.pop(next(iter(self._refused_profiles)))
        return False

    def _move_on(self, raw: RawBlock) -> None:
        """Free what no event can need any more; a quiet partition does not hold the rest back.

        The slowest partition decides, so it matters not how far ahead another one is read.
        """
        newest = self._judge.newest
        if not newest:
            return
        # A partition that was quiet up to this block is so no more.
        quiet = {*raw.quiet} - {(raw.topic, part) for part in raw.partitions} if raw.quiet else ()
        moving = [at for where, at in newest.items() if where not in quiet]
        slowest = min(moving or newest.values())
        self.memory.forget_before(slowest)
        if raw.unread or not moving:
            return
        floor = (slowest - self._rules.lateness_ms_max) // MINUTE_MS
        if floor > self._judge.floor_minute:
            self._judge.floor_minute = floor
            self.rollup.drop_before(floor)

    def _outputs(
        self,
        block: CheckedBlock,
        places: Sequence[int],
        events: Accepted,
        refused: list[tuple[int, Refused]],
    ) -> Outputs:
        raw = block.raw
        routed = self._publisher.routed(events, received_ms=raw.received_ms) if events else []
        singles = routed if isinstance(routed, list) else []
        for place, message in refused:
            discard = _must_discard(block, place)
            record = self._publisher.refused(message, raw, place, discard=discard)
            if record is not None:
                singles.append(record)
        rows: list[Rows] = []
        if events:
            rows += [fact_rows(events), *self._count(block, places, events)]
        if refused:
            rows.append(quarantine_rows([message for _, message in refused]))
        counts: dict[tuple[Door, str], int] = {}
        for _, message in refused:
            left_by = (message.refusal.door, message.refusal.code)
            counts[left_by] = counts.get(left_by, 0) + 1
        counts[Door.ROUTED, ""] = len(events)
        tally = tally_of(events, [message for _, message in refused])
        if tally:
            rows.append(self.ledger.enter(raw.topic, tally, lane=raw.lane))
            rows += self.closed.rows(raw.lane)
        records = Records(None if isinstance(routed, list) else routed, singles)
        return Outputs(raw.lane, raw.topic, records, rows, counts)

    def _count(
        self, block: CheckedBlock, places: Sequence[int], events: Accepted
    ) -> Iterator[Rows]:
        """Count these events, which are those of the places, in the lane's cells or apart."""
        lane = block.raw.lane
        if events.topic == PROFILE_TOPIC:
            late = late_of(
                events,
                floor_minute=self._judge.floor_minute,
                lateness_ms_max=self._rules.lateness_ms_max,
            )
            if late.any():
                apart, in_time = np.array(places)[late], np.array(places)[~late]
                yield late_rows(accepted_events(block, apart.tolist()), lane=lane)
                events = accepted_events(block, in_time.tolist())
        if events:
            yield self._roll_up(events, lane)

    def _roll_up(self, events: Accepted, lane: int) -> Rows:
        tickets, rollup = events.tickets, self.rollup
        changed = rollup.add(
            minutes=tickets.times_ms // MINUTE_MS,
            numbers=self._dimensions(events),
            amounts=events.amounts(),
            buckets=buckets_of(events.recorded_ms - tickets.times_ms),
            recorded=events.recorded_ms,
        )
        return rollup.rows(changed, lane=lane)

    def _dimensions(self, events: Accepted) -> Numbers:
        """The rollup's number of each event: of many, those alike are looked up once."""
        labels, numbers = events.tickets.labels, events.tickets.numbers
        told = [events.words(name) for name in ("campaign", "channel", "currency", "arm")]
        every: Any = slice(None)
        first = back = every
        if not are_few(events):
            first, back = group([Coded(labels, numbers), *told])
        shown = [(label.type, label.class_text) for label in labels]
        types, classes = zip(*(shown[number] for number in numbers[first].tolist()), strict=True)
        campaigns, channels, *rest = (Coded(one.words, one.codes[first]) for one in told)
        parts = zip(types, campaigns, channels, classes, *rest, strict=True)
        found = self.rollup.numbers_of(list(map(tuple.__new__, repeat(Dimensions), parts)))
        numbered: Numbers = np.array(found, np.int64)[back]
        return numbered

    def dump(self) -> bytes:
        """The lane's state as bytes with a version number; what is in a journal is durable then."""
        self.closed.keep(self._judge.floor_minute)
        return msgspec.msgpack.encode(
            {
                "version": STATE_VERSION,
                "purposes": self._judge.names,
                "memory": self.kept.dump(),
                "rollup": self.rollup.dump(),
                "ledger": self.ledger.dump(),
                "newest": [[*where, at] for where, at in self._judge.newest.items()],
                "next": [[*where, offset] for where, offset in self._next.items()],
                "floor_minute": self._judge.floor_minute,
                "refused_profiles": list(self._refused_profiles),
                "limit": self.limit.dump(),
            }
        )

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave, in this release or an earlier one.

        Errors: PermanentError for a version that cannot be read, naming what to do.
        """
        state = read_state(dumped)
        self._judge.rename(state["purposes"])
        self.kept.load(state["memory"])
        self.rollup.load(state["rollup"])
        self.ledger.load(state["ledger"])
        self.limit.load(state["limit"])
        self._judge.newest = {(topic, part): at for topic, part, at in state["newest"]}
        self._next = {(topic, part): offset for topic, part, offset in state["next"]}
        self._judge.floor_minute = state["floor_minute"]
        self.closed.keep(self._judge.floor_minute)
        self._refused_profiles = dict.fromkeys(map(tuple, state["refused_profiles"]))


def _refused(block: CheckedBlock, place: int, refusal: Refusal) -> Refused:
    raw = block.raw
    ticket = block.tickets[place]
    label = ticket.label if ticket else None
    glance = block.glances.get(place, {})
    return Refused(
        refusal=refusal,
        origin=Origin(raw.topic, raw.partitions[place], raw.offsets[place]),
        recorded_ms=raw.timestamps[place],
        event_id=ticket.id if ticket else glance.get("id", ""),
        source=label.source if label else glance.get("source", ""),
        event_type=label.type if label else glance.get("type", ""),
        purpose=label.purpose if label else "",
        class_text=label.class_text if label else "",
    )


def _by_clock(ticket: Ticket | None, refusal: Refusal | None) -> bool:
    """Tell whether a message may pass when it is read again later, by what the checker said."""
    return ticket is not None and refusal is not None and refusal.code == "T105"


def _must_discard(block: CheckedBlock, place: int) -> bool:
    ticket = block.tickets[place]
    if ticket is not None:
        return ticket.label.decision.discard_body
    return bool(block.glances.get(place, {}).get("discard"))
