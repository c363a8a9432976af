"""The gate: the one place where each message of a lane gets its door.

Everything that needs memory is decided here, in the order of the lane's blocks: lateness,
purpose limitation, consent, duplicates. What comes out is complete: records and rows.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import Final

import msgspec

from flows.steps.accept import PROFILE_TOPIC, to_follow
from flows.steps.close_cells import ClosedCells
from flows.steps.count_fates import RUN, Ledger, Tally
from flows.steps.deduplicate import Memory, Sight
from flows.steps.enrich import ProfileTable
from flows.steps.limit import LimitRules, QuarantineLimit
from flows.steps.publish import STAGE, Publisher
from flows.steps.roll_up import Rollup
from flows.steps.upgrade import STATE_VERSION, read_state
from flows.steps.write_facts import Accepted, Refused, fact_rows, quarantine_rows
from schemas.blocks import CheckedBlock, Origin, Outputs, OutRecord, RawBlock, Rows
from schemas.codes import Door
from schemas.events import COLUMNS
from schemas.fates import Refusal
from schemas.hops import REPLAY_STAGE, clock_went_back, parse_hops
from schemas.policy import RANK_OF_A_PERSON, Policy
from schemas.rollup import MINUTE_MS, Dimensions, bucket_of
from schemas.ticket import Ticket, hash64

PROFILE_TYPE: Final = "ntf.profile.updated.v1"
REFUSED_PROFILES_MAX: Final = 100_000
"""Profiles that the gate refused and that a re-read must not hold; the oldest go first."""

_columns_of = attrgetter(*COLUMNS)
_CAMPAIGN: Final = COLUMNS.index("campaign")
_CHANNEL: Final = COLUMNS.index("channel")
_ARM: Final = COLUMNS.index("arm")
_CURRENCY: Final = COLUMNS.index("currency")
_AMOUNT: Final = COLUMNS.index("amount_minor")


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
        self._purposes = {name: number for number, name in enumerate(rules.policy.purposes)}
        self._names = list(self._purposes)
        self.profiles = ProfileTable()
        self.memory = Memory(rules.duplicate_ms_max, rules.duplicates_max)
        self.rollup = Rollup(rules.rollup_cells_max)
        self.ledger = Ledger()
        self.limit = QuarantineLimit(rules.limit)
        self.closed = ClosedCells()
        self._newest: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._floor_minute = 0
        self._refused_profiles: dict[tuple[int, int], None] = {}

    @property
    def watermark_ms(self) -> int | None:
        """The event time that every partition seen so far has reached; None before the first."""
        return min(self._newest.values(), default=None)

    def pass_block(self, block: CheckedBlock) -> Outputs:
        """Decide every message of a block, and give all that follows from it.

        Shapes: a message that was decided before the last snapshot is not decided again.
        """
        raw = block.raw
        accepted: list[tuple[int, Accepted]] = []
        refused: list[tuple[int, Refused]] = []
        tally: Tally = Counter()
        held: list[int] = []
        for place, offset in enumerate(raw.offsets):
            where = (raw.topic, raw.partitions[place])
            again = offset < self._next.get(where, 0)
            refusal = block.refusals.get(place)
            if not again:
                self._next[where] = offset + 1
                if refusal is None:
                    refusal = self._refusal_of(block, place)
            if self._hold_profile(block, place, refusal, again=again):
                held.append(place)
            if again:
                continue
            if refusal is None:
                event = self._accepted(block, place)
                accepted.append((place, event))
                code, source = "", event.ticket.label.source
            else:
                message = _refused(block, place, refusal)
                refused.append((place, message))
                code, source = refusal.code, message.source
            tally[raw.partitions[place], offset // RUN, code, source] += 1
        self.limit.count(raw, accepted, refused)
        outputs = self._outputs(block, accepted, refused, tally)
        # Last: a cell that this block still changed may be freed now, but not before.
        self._move_on(raw)
        if self._followed:
            zones = {place: event.zone for place, event in accepted}
            watermark_ms = self.watermark_ms or 0
            followed = to_follow(block, zones=zones, held=held, watermark_ms=watermark_ms)
            return outputs._replace(accepted=followed)
        return outputs

    def _refusal_of(self, block: CheckedBlock, place: int) -> Refusal | None:
        """Check a message that is right in itself against what the lane remembers."""
        raw = block.raw
        ticket = block.tickets[place]
        assert ticket is not None
        where = (raw.topic, raw.partitions[place])
        newest = self._newest.get(where, 0)
        kept_until_ms = raw.timestamps[place] + ticket.label.decision.retention_s * 1_000
        if kept_until_ms <= raw.received_ms:
            return Refusal("T405", "", "expected a record within its policy's retention")
        if raw.topic != PROFILE_TOPIC and self._is_too_late(ticket, newest):
            return Refusal("T601", "/ce_time", "expected a time that late corrections reach")
        if self._is_back_at_this_gate(ticket):
            return Refusal("T502", "/ce_datahops", "expected a replay hop before a second pass")
        now_ms = max(newest, ticket.time_ms)
        if ticket.causation and not self._fits_its_cause(ticket, now_ms):
            return Refusal("T206", "/ce_datapurpose", "expected a purpose its cause is open to")
        if ticket.label.decision.consent and ticket.subject:
            profile = self.profiles.get(ticket.subject)
            if profile is None or ticket.label.purpose not in profile.granted:
                return Refusal("T404", "/ce_datapurpose", "expected the person's consent")
        sight = self._see(ticket, raw.values[place] or b"", now_ms)
        if sight is Sight.REPEAT:
            return Refusal("T602", "/ce_id", "expected each event once")
        if sight is Sight.CONFLICT:
            return Refusal("T603", "/ce_id", "expected the content first sent under this id")
        self._newest[where] = now_ms
        return None

    def _is_too_late(self, ticket: Ticket, newest: int) -> bool:
        """Not asked of profiles: a person's last word counts, however long it was on its way."""
        reach_ms = newest - self._rules.lateness_ms_max
        return ticket.time_ms < reach_ms or ticket.time_ms // MINUTE_MS < self._floor_minute

    def _is_back_at_this_gate(self, ticket: Ticket) -> bool:
        hops = parse_hops(ticket.hops) if ticket.hops else []
        if isinstance(hops, Refusal):
            return False  # the reader refuses such a ticket
        for hop in reversed(hops):
            if hop.stage == REPLAY_STAGE:
                return False
            if (hop.stage, hop.node) == (STAGE, self._publisher.node):
                return True
        return False

    def _fits_its_cause(self, ticket: Ticket, now_ms: int) -> bool:
        event = hash64(ticket.causation.encode())
        number = self.memory.purpose_of(event, now_ms=now_ms)
        if number is None:
            return True  # the cause is of another lane, or forgotten
        purpose, cause = ticket.label.purpose, self._names[number]
        known = self._rules.policy.purposes.get(cause)
        # A purpose that has left the policy cannot be judged any more.
        return known is None or purpose == cause or purpose in known.compatible

    def _see(self, ticket: Ticket, value: bytes, now_ms: int) -> Sight:
        label = ticket.label
        whole = b"%b\0%d\0%b" % (label.type.encode(), ticket.time_ms, value)
        return self.memory.see(
            event=hash64(ticket.id.encode()),
            source=label.identity,
            content=hash64(whole),
            purpose=self._purposes[label.purpose],
            now_ms=now_ms,
        )

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

    def _accepted(self, block: CheckedBlock, place: int) -> Accepted:
        raw = block.raw
        ticket = block.tickets[place]
        assert ticket is not None
        # What is open to all does not show where a person lives, nor that we know them.
        personal = ticket.label.decision.rank >= RANK_OF_A_PERSON
        profile = self.profiles.get(ticket.subject) if personal else None
        warnings = []
        if personal and profile is None:
            warnings.append("T604")
        if ticket.hops:
            hops = parse_hops(ticket.hops)
            if isinstance(hops, list) and clock_went_back(hops):
                warnings.append("T504")
        return Accepted(
            ticket=ticket,
            columns=_columns_of(block.bodies[place]),
            origin=Origin(raw.topic, raw.partitions[place], raw.offsets[place]),
            recorded_ms=raw.timestamps[place],
            zone=profile.zone if profile else "",
            warnings=tuple(warnings),
        )

    def _move_on(self, raw: RawBlock) -> None:
        """Free what no event can need any more; a quiet partition does not hold the rest back.

        The slowest partition decides, so it matters not how far ahead another one is read.
        """
        if not self._newest:
            return
        moving = [at for where, at in self._newest.items() if where not in raw.quiet]
        slowest = min(moving or self._newest.values())
        self.memory.forget_before(slowest)
        if raw.unread or not moving:
            return
        floor = (slowest - self._rules.lateness_ms_max) // MINUTE_MS
        if floor > self._floor_minute:
            self._floor_minute = floor
            self.rollup.drop_before(floor)

    def _outputs(
        self,
        block: CheckedBlock,
        accepted: list[tuple[int, Accepted]],
        refused: list[tuple[int, Refused]],
        tally: Tally,
    ) -> Outputs:
        raw = block.raw
        records: list[OutRecord] = [
            self._publisher.routed(event, raw, place) for place, event in accepted
        ]
        for place, message in refused:
            discard = _must_discard(block, place)
            record = self._publisher.refused(message, raw, place, discard=discard)
            if record is not None:
                records.append(record)
        rows: list[Rows] = []
        if accepted:
            events = [event for _, event in accepted]
            rows += [fact_rows(events), self._roll_up(events, raw.lane)]
        if refused:
            rows.append(quarantine_rows([message for _, message in refused]))
        counts = Counter((message.refusal.door, message.refusal.code) for _, message in refused)
        counts[Door.ROUTED, ""] += len(accepted)
        if tally:
            rows.append(self.ledger.enter(raw.topic, tally, lane=raw.lane))
            rows += self.closed.rows(raw.lane)
        return Outputs(raw.lane, raw.topic, records, rows, dict(counts))

    def _roll_up(self, events: list[Accepted], lane: int) -> Rows:
        numbers = [
            self.rollup.number_of(
                Dimensions(
                    event.ticket.label.type,
                    event.columns[_CAMPAIGN] or "",
                    event.columns[_CHANNEL] or "",
                    event.ticket.label.class_text,
                    event.columns[_CURRENCY] or "",
                    event.columns[_ARM] or "",
                )
            )
            for event in events
        ]
        changed = self.rollup.add(
            minutes=[event.ticket.time_ms // MINUTE_MS for event in events],
            numbers=numbers,
            amounts=[event.columns[_AMOUNT] or 0 for event in events],
            buckets=[bucket_of(event.recorded_ms - event.ticket.time_ms) for event in events],
            recorded=[event.recorded_ms for event in events],
        )
        return self.rollup.rows(changed, lane=lane)

    def dump(self) -> bytes:
        """The lane's state as bytes with a version number; a copy, whatever follows."""
        self.closed.keep(self._floor_minute)
        return msgspec.msgpack.encode(
            {
                "version": STATE_VERSION,
                "purposes": self._names,
                "memory": self.memory.dump(),
                "rollup": self.rollup.dump(),
                "ledger": self.ledger.dump(),
                "newest": [[*where, at] for where, at in self._newest.items()],
                "next": [[*where, offset] for where, offset in self._next.items()],
                "floor_minute": self._floor_minute,
                "refused_profiles": list(self._refused_profiles),
                "limit": self.limit.dump(),
            }
        )

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave, in this release or an earlier one.

        Errors: PermanentError for a version that cannot be read, naming what to do.
        """
        state = read_state(dumped)
        self._names = state["purposes"] + [n for n in self._names if n not in state["purposes"]]
        self._purposes = {name: number for number, name in enumerate(self._names)}
        self.memory.load(state["memory"])
        self.rollup.load(state["rollup"])
        self.ledger.load(state["ledger"])
        self.limit.load(state["limit"])
        self._newest = {(topic, part): at for topic, part, at in state["newest"]}
        self._next = {(topic, part): offset for topic, part, offset in state["next"]}
        self._floor_minute = state["floor_minute"]
        self.closed.keep(self._floor_minute)
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
