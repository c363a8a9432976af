"""Compare journeys and outcomes with the facts, and write anew what the facts alone can tell.

A journey's row is a function of the set of its events, so the flow's own folding is run over the
facts. Two things are in no fact: whether a machine opened or clicked, and the odds of an arm.
They are taken from the row that is there; where that does not know them, a difference is told
and not mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from flows.journey.acts import NAMES, act_of, may_be_a_machines
from flows.journey.book import journey_rows
from flows.journey.outcomes import as_rows
from flows.journey.rules import JourneyRules
from flows.journey.story import COLUMNS, Story, Told, fold, hash_of, moments_of, row_of, state_of
from flows.reconcile import queries
from flows.reconcile.findings import JourneyFinding, Report, Scope, State
from flows.reconcile.outcomes import Wrong, wrong_outcomes
from flows.reconcile.store import OPEN_S, Order, Store
from schemas.ticket import hash64

FACTS_A_PART: Final = 100_000
"""Facts that are looked at together, about."""

_ASSIGNED: Final = "ntf.orchestration.variant_assigned.v1"
_REFUNDED: Final = "ntf.outcome.refunded.v1"
_SUPPRESSED: Final = "ntf.orchestration.suppressed.v1"
_FREE: Final = frozenset(("propensity", "expires_at", "ver"))
"""Columns that are not compared: in no fact, or as the policy was when an event came."""

Row = dict[str, Any]


class Facts(NamedTuple):
    """The facts of one journey: of `unsure` of them only the flow knows everything.

    Units: seconds; `newest_s` is when the last one was recorded.
    """

    told: list[Told]
    newest_s: int
    unsure: int


def compare_journeys(
    store: Store,
    order: Order,
    rules: JourneyRules,
    report: Report,
    *,
    stopped: Callable[[], bool],
) -> None:
    """Compare every journey that has a recent fact, and none too old, and what came of it.

    Where no flow has written journeys there is nothing to compare.
    Delivery: safe to repeat, to interrupt, and to run beside the flow: a row gets the version
    that the flow gives to as many events, and whatever the flow writes next wins.
    """
    [(written, size)] = store.read(queries.RECENT_EVENTS, {"since_s": order.since_s}, name="facts")
    if not written:
        return
    parts = 1 + int(size) // FACTS_A_PART
    for part in range(parts):
        if stopped():
            report.complete = False
            return
        share = {"since_s": order.since_s, "parts": parts, "part": part}
        # Facts first: a row that is read later knows of them, if it ever will.
        lines = store.read(queries.JOURNEY_FACTS, share, name="facts")
        found = store.read(queries.JOURNEY_ROWS, share, name="journeys")
        rows = {row[1]: dict(zip(COLUMNS, row[1:], strict=True)) for row in found}
        facts = facts_by_journey(lines, rows)

        def read_again(share: dict[str, int] = share) -> dict[str, int]:
            later = store.read(queries.JOURNEY_FACTS, share, name="facts")
            return Counter(line[1] for line in later)

        wanted = {
            journey
            for journey in facts.keys() | rows.keys()
            # Of an older one some facts may have expired.
            if _start_s(facts.get(journey), rows.get(journey)) >= order.kept_since_s
        }
        keys = {line[1]: int(line[0]) for line in (*found, *lines)}
        outcomes = store.read(queries.OUTCOME_ROWS, share, name="outcomes")
        moving = Moving(order.now_s, Counter(line[1] for line in lines), read_again)
        some = Part(order, report, {name: keys[name] for name in wanted}, moving)
        some.compare_rows(store, facts, rows, rules)
        some.compare_outcomes(store, facts, outcomes)


class Moving:
    """Tells which journeys went on while they were compared: facts are read before rows.

    Shapes: `counts` of the facts that were read first. State: the facts are read once more when
    that is asked for the first time.
    """

    def __init__(
        self, now_s: int, counts: Mapping[str, int], read_again: Callable[[], Mapping[str, int]]
    ) -> None:
        self._now_s = now_s
        self._counts = counts
        self._read_again = read_again
        self._later: Mapping[str, int] | None = None

    def is_one(self, journey: str, last_ms: int) -> bool:
        """Whether this journey has more facts by now, or a row so new that they may yet come."""
        if self._now_s - last_ms // 1_000 < OPEN_S:
            return True
        if self._later is None:
            self._later = self._read_again()
        return self._later.get(journey, 0) > self._counts.get(journey, 0)


class Part:
    """Journeys that are compared together. Shapes: `keys` by journey, of those to compare."""

    def __init__(
        self, order: Order, report: Report, keys: Mapping[str, int], moving: Moving
    ) -> None:
        self._order = order
        self._report = report
        self._keys = keys
        self._moving = moving

    def compare_rows(
        self,
        store: Store,
        facts: Mapping[str, Facts],
        rows: Mapping[str, Row],
        rules: JourneyRules,
    ) -> None:
        """Compare the rows of `journeys`; mend those that may be mended if asked."""
        mended: list[tuple[Any, ...]] = []
        for journey in sorted(self._keys):
            one, row = facts.get(journey), rows.get(journey)
            right = () if one is None else row_from(journey, one, row, self._order, rules)
            self._report.journeys.compared += 1
            what = _differing(right, row)
            if not what:
                continue
            state = self._state(journey, one, row)
            self._tell(
                self._report.journeys, Wrong(journey, what), one, int(row["n"] if row else 0), state
            )
            if state is State.REPAIRED:
                mended.append(right)
        if mended:
            store.write(journey_rows(mended))

    def compare_outcomes(
        self, store: Store, facts: Mapping[str, Facts], lines: list[tuple[Any, ...]]
    ) -> None:
        """Compare the rows of `outcomes`; reactions are mended, what was shared out is told."""
        told = {name: facts[name].told for name in self._keys if name in facts}
        lines = [line for line in lines if line[5] in self._keys]
        compared, wrong = wrong_outcomes(told, lines)
        self._report.outcomes.compared += compared
        mended: list[tuple[Any, ...]] = []
        for one in wrong:
            of_journey = facts.get(one.journey)
            state = self._outcome_state(one, of_journey)
            self._tell(self._report.outcomes, one, of_journey, one.rows, state)
            if state is State.REPAIRED:
                mended += one.right
        if mended:
            store.write(as_rows(mended))

    def _state(self, journey: str, one: Facts | None, row: Row | None) -> State:
        n = int(row["n"]) if row else 0
        if one is None or n > len(one.told):
            # Facts are missing, and a repair takes nothing away; unless they came just now.
            moving = row is not None and self._moving.is_one(journey, int(row["last_at"]))
            return State.OPEN if moving else State.CLOSED
        if n < len(one.told) and self._order.now_s - one.newest_s < OPEN_S:
            return State.OPEN
        if one.unsure:
            return State.IN_FLOW
        return State.REPAIRED if self._order.repair else State.CLOSED

    def _outcome_state(self, one: Wrong, facts: Facts | None) -> State:
        if facts is None or one.too_many:
            moving = self._moving.is_one(one.journey, one.newest_ms)
            return State.OPEN if moving else State.CLOSED
        if not one.rows and self._order.now_s - facts.newest_s < OPEN_S:
            return State.OPEN
        if facts.unsure or not one.right:
            return State.IN_FLOW
        return State.REPAIRED if self._order.repair else State.CLOSED

    def _tell(
        self, scope: Scope, wrong: Wrong, facts: Facts | None, row_n: int, state: State
    ) -> None:
        if state is State.OPEN and self._order.closed_only:
            return
        scope.count(state)
        facts_n = len(facts.told) if facts else 0
        key = self._keys[wrong.journey]
        self._report.show(JourneyFinding(key, scope.name, wrong.what, facts_n, row_n, state))


def facts_by_journey(lines: list[tuple[Any, ...]], rows: Mapping[str, Row]) -> dict[str, Facts]:
    """The facts as the journey flow was told of them, with what only the rows still know."""
    found: dict[str, Facts] = {}
    known = {name: Counter(zip(row["at"], row["acts"], strict=True)) for name, row in rows.items()}
    left = {name: acts.copy() for name, acts in known.items()}
    for _, journey, *fields, recorded_s in lines:
        event_type, at_ms = fields[2], int(fields[3])
        acts = known.get(journey, Counter[tuple[int, str]]())
        unused = left.get(journey, acts)
        human, machine = act_of(event_type, machine=False), None
        if human is None:
            continue
        if may_be_a_machines(event_type):
            machine = act_of(event_type, machine=True)
        act = machine if machine is not None and unused[at_ms, NAMES[machine]] > 0 else human
        unused[at_ms, NAMES[act]] -= 1
        sure = unused[at_ms, NAMES[act]] >= 0 or (machine is None and event_type != _ASSIGNED)
        if machine is not None and acts[at_ms, NAMES[human]] and acts[at_ms, NAMES[machine]]:
            sure = False  # which of two at the same moment was the machine's is in no fact
        propensity = float(rows[journey]["propensity"]) if journey in rows else 0.0
        told = _told(journey, fields, act, propensity if event_type == _ASSIGNED else 0.0)
        old = found.get(journey, Facts([], 0, 0))
        old.told.append(told)
        found[journey] = Facts(
            old.told, max(old.newest_s, int(recorded_s)), old.unsure + (not sure)
        )
    return found


def _told(journey: str, fields: list[Any], act: int, propensity: float) -> Told:
    (event_id, source, event_type, at_ms, channel, subject, notification, campaign, tenant, arm) = (
        fields[:10]
    )
    (reason, purpose, classes, sensitivity, hops, expires_day, amount, currency) = fields[10:]
    return Told(
        place=0,
        journey=journey,
        at_ms=int(at_ms),
        event=hash_of(event_id, hash64(source.encode())),
        act=act,
        channel=channel,
        subject=subject,
        notification=notification,
        campaign=campaign,
        tenant=tenant,
        arm=arm,
        purpose=purpose,
        classes=classes,
        sensitivity=int(sensitivity),
        propensity=propensity,
        held_out=event_type == _SUPPRESSED and reason == "holdout",
        hops=int(hops),
        expires_day=int(expires_day),
        amount_minor=int(amount),
        currency=currency,
        refund=event_type == _REFUNDED,
    )


def row_from(
    journey: str, facts: Facts, row: Row | None, order: Order, rules: JourneyRules
) -> tuple[Any, ...]:
    """The row that the facts make. Whether it timed out is what the row of as many events says."""
    story = Story()
    fold(story, facts.told, moments_max=rules.moments_max)
    if state_of(story, moments_of(story)) == "open":
        if row is not None and row["n"] == story.n:
            story.ended = bool(int(row["ver"]) & 1)
        else:
            reached_ms = min(order.floors_s.values(), default=0) * 1_000 + rules.lateness_ms
            story.ended = story.last_ms + rules.timeout_ms <= reached_ms
    return row_of(journey, story)


def _differing(right: tuple[Any, ...], row: Row | None) -> str:
    """The columns that differ, in words; empty for none."""
    if row is None:
        return "no row"
    if not right:
        return "no facts"
    return ", ".join(
        name
        for name, value in zip(COLUMNS, right, strict=True)
        if name not in _FREE and value != row[name]
    )


def _start_s(facts: Facts | None, row: Row | None) -> int:
    times = [told.at_ms for told in facts.told] if facts else []
    times += [int(row["started_at"])] if row else []
    return min(times) // 1_000
