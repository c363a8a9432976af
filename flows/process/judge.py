"""Judge one journey by the declared process: pure, over its events in order of time.

The same definitions as in `flows.process.queries`, where SQL applies them to stored journeys; a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from flows.journey.acts import ACTS, NAMES, NUMBERS, bits
from flows.journey.story import Moment
from schemas.errors import ConfigError
from schemas.process import Process

FORBIDDEN: Final = "forbidden"
MISSING: Final = "missing"
OVERDUE: Final = "overdue"

_START: Final = -1


class Finding(NamedTuple):
    """One way in which a journey left the process.

    Units: `at_ms` is event time: that of the act, of the end, or when the deadline passed.
    """

    kind: str
    at_ms: int
    act: str
    previous: str = ""
    allowed_s: int = 0

    @property
    def rule(self) -> str:
        """What was broken, as one word."""
        about = f"{self.previous}>{self.act}" if self.kind == FORBIDDEN else self.act
        return f"{self.kind}:{about}"


class Need(NamedTuple):
    """A required step, the acts that it has to come before as bits, whether a time-out counts."""

    act: int
    ends: int
    by_time_out: bool


class Rules:
    """A process by the numbers of acts, as events carry them.

    Errors: ConfigError for a step that no journey can have.
    """

    def __init__(self, process: Process) -> None:
        strange = sorted(set(process.steps) - set(NAMES))
        if strange:
            raise ConfigError(
                do="use",
                kind="process",
                name=process.process,
                found=f"the step {strange[0]}",
                expected="acts of journeys, as in docs/process.md",
            )
        self.name = process.process
        self.follow = {_START: bits(process.starts)}
        self.follow |= dict.fromkeys(range(len(ACTS)), 0)
        for before, act in process.allowed:
            if before:
                self.follow[NUMBERS[before]] |= 1 << NUMBERS[act]
        self.deadlines = {
            NUMBERS[act]: (1_000 * seconds, bits(until))
            for act, (seconds, until) in process.deadlines.items()
        }
        self.needs = tuple(
            Need(NUMBERS[step], bits(ends), by_time_out)
            for step, ends, by_time_out in process.needs
        )

    def due_ms(self, moment: Moment) -> int | None:
        """When the deadline of an act passes, if it has one."""
        deadline = self.deadlines.get(moment.act)
        return None if deadline is None else moment.at_ms + deadline[0]


def judge(
    rules: Rules, moments: Sequence[Moment], *, horizon_ms: int, whole: bool
) -> list[Finding]:
    """All that is wrong with a journey as far as event time has come: before `horizon_ms`.

    `whole` says that no event was left out. Shapes: in order of time, each rule once, the first
    time; an act at the horizon itself is not judged yet.
    """
    findings = [
        *_forbidden(rules, moments, horizon_ms),
        *_overdue(rules, moments, horizon_ms, whole=whole),
        *_missing(rules, moments, horizon_ms),
    ]
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda one: (one.at_ms, one.rule)):
        first.setdefault(finding.rule, finding)
    return list(first.values())


def judge_silence(rules: Rules, moments: Sequence[Moment], *, at_ms: int) -> list[Finding]:
    """What is missing on a journey that timed out, without one of the ends that need it."""
    seen = 0
    for moment in moments:
        seen |= 1 << moment.act
    return [
        Finding(MISSING, at_ms, NAMES[need.act])
        for need in rules.needs
        if need.by_time_out and not seen & need.ends and not seen >> need.act & 1
    ]


def _forbidden(rules: Rules, moments: Sequence[Moment], horizon_ms: int) -> Iterator[Finding]:
    before = _START
    for moment in moments:
        if moment.at_ms >= horizon_ms:
            return
        if not rules.follow[before] >> moment.act & 1:
            previous = NAMES[before] if before != _START else ""
            yield Finding(FORBIDDEN, moment.at_ms, NAMES[moment.act], previous)
        before = moment.act


def _overdue(
    rules: Rules, moments: Sequence[Moment], horizon_ms: int, *, whole: bool
) -> Iterator[Finding]:
    for place, moment in enumerate(moments):
        due_ms = rules.due_ms(moment)
        if due_ms is None or due_ms >= horizon_ms:
            continue
        allowed_ms, until = rules.deadlines[moment.act]
        in_time = any(
            until >> later.act & 1 and later.at_ms <= due_ms for later in moments[place + 1 :]
        )
        if not in_time and (whole or due_ms <= moments[-1].at_ms):
            yield Finding(OVERDUE, due_ms, NAMES[moment.act], allowed_s=allowed_ms // 1_000)


def _missing(rules: Rules, moments: Sequence[Moment], horizon_ms: int) -> Iterator[Finding]:
    for need in rules.needs:
        for moment in moments:
            if moment.act == need.act or moment.at_ms >= horizon_ms:
                break
            if need.ends >> moment.act & 1:
                yield Finding(MISSING, moment.at_ms, NAMES[need.act])
                break
