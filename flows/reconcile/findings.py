"""What reconciliation finds: cells, hours and lines of the books that differ, and what becomes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

import msgspec

X = TypeVar("X")

LISTED_MAX: Final = 1_000
"""Differences that a report lists; all are counted."""


class State(StrEnum):
    """What became of a difference."""

    REPAIRED = "repaired"
    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "perhaps expired"
    LOSS = "too many events would go"
    EXPLAINED = "repeats"
    IN_FLOW = "only the flow can tell"


class Cell(msgspec.Struct, frozen=True, array_like=True):
    """One rollup cell of a lane that does not say what the facts say.

    Units: seconds since 1970; amounts in minor units.
    Shapes: the fields as `queries.CELLS` gives them; `late` names the event of a row of its own.
    """

    minute_s: int
    event_type: str
    campaign: str
    channel: str
    classes: str
    currency: str
    arm: str
    lane: int
    late: int
    newest_s: int
    version: int
    facts_n: int
    facts_amount: int
    facts_hist: list[int]
    rollup_n: int
    rollup_amount: int

    @property
    def what(self) -> str:
        """Which of the values differ, the first of them."""
        if self.version == 0:
            return "no row"
        if self.facts_n != self.rollup_n:
            return "no facts" if self.facts_n == 0 else "n"
        return "amount" if self.facts_amount != self.rollup_amount else "histogram"


class CellFinding(msgspec.Struct, frozen=True):
    """A cell that differs. It is named without campaign and channel: those are message values."""

    minute_s: int
    event_type: str
    classes: str
    lane: int
    what: str
    facts_n: int
    rollup_n: int
    state: State


class HourFinding(msgspec.Struct, frozen=True):
    """A closed hour in which `rollup_1m` and the facts do not add up to the same."""

    hour_s: int
    facts_n: int
    rollup_n: int
    amount_differs: bool


class BookFinding(msgspec.Struct, frozen=True):
    """A line of the books that does not match the stored rows.

    Shapes: `found` offsets have a row, `held` of them after repeats collapsed.
    """

    topic: str
    part: int
    run: int
    door: str
    code: str
    booked: int
    found: int
    held: int
    state: State


class JourneyFinding(msgspec.Struct, frozen=True):
    """A journey, or what came of one, that does not say what the facts say.

    Shapes: `key` is `cityHash64(journey)`, since a journey's name came in a message; `what` names
    the columns that differ.
    """

    key: int
    table: str
    what: str
    facts_n: int
    row_n: int
    state: State


class Scope(msgspec.Struct):
    """The counts of one kind of comparison."""

    name: str
    compared: int = 0
    differing: int = 0
    repaired: int = 0
    open: int = 0
    explained: int = 0

    @property
    def remaining(self) -> int:
        """Differences that nothing explains and that will not heal by themselves."""
        return self.differing - self.repaired - self.open - self.explained

    def count(self, state: State) -> None:
        """Count one difference."""
        self.differing += 1
        self.repaired += state is State.REPAIRED
        self.open += state is State.OPEN
        self.explained += state is State.EXPLAINED


class Report(msgspec.Struct):
    """All that one run found. `complete` is false when a bound cut it short."""

    at_ms: int
    since_s: int
    complete: bool = True
    minutes: Scope = msgspec.field(default_factory=lambda: Scope("minutes"))
    hours: Scope = msgspec.field(default_factory=lambda: Scope("hours"))
    books: Scope = msgspec.field(default_factory=lambda: Scope("books"))
    journeys: Scope = msgspec.field(default_factory=lambda: Scope("journeys"))
    outcomes: Scope = msgspec.field(default_factory=lambda: Scope("outcomes"))
    cell_findings: list[CellFinding] = []
    hour_findings: list[HourFinding] = []
    book_findings: list[BookFinding] = []
    journey_findings: list[JourneyFinding] = []

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """All counts; those of journeys only where there are any."""
        followed = self.journeys.compared or self.outcomes.compared
        more = (self.journeys, self.outcomes) if followed else ()
        return self.minutes, self.hours, self.books, *more

    @property
    def is_well(self) -> bool:
        """Tell whether everything was compared and no difference is left."""
        return self.complete and not any(scope.remaining + scope.open for scope in self.scopes)

    def show(self, finding: CellFinding | HourFinding | BookFinding | JourneyFinding) -> None:
        """Keep a finding to show, as long as there is room."""
        if isinstance(finding, CellFinding):
            _add(self.cell_findings, finding)
        elif isinstance(finding, HourFinding):
            _add(self.hour_findings, finding)
        elif isinstance(finding, JourneyFinding):
            _add(self.journey_findings, finding)
        else:
            _add(self.book_findings, finding)


def _add(kept: list[X], finding: X) -> None:
    if len(kept) < LISTED_MAX:
        kept.append(finding)
