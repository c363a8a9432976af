"""Compare the optimised arm with the holdout at any time, as often as one likes.

State is seven sums an arm, so lanes merge by addition and the order of responses is no matter.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

OPTIMISED: Final = 0
HOLDOUT: Final = 1
ARMS: Final = ("optimised", "holdout")

SUMS: Final = (
    "subjects",
    "sends",
    "answers",
    "value",
    "sends_squared",
    "sends_value",
    "value_squared",
)
"""Per arm: subjects, their sends, sends with a value that is not 0, and moments per subject."""

POWER_Z: Final = 0.8416212335729143
"""The normal quantile of 80 % power."""

POOLED_ANSWERS: Final = 20.0
"""So many answers weigh the spread of both arms together as much as an arm's own."""

_SUBJECTS, _SENDS, _ANSWERS, _VALUE, _SENDS_2, _SENDS_VALUE, _VALUE_2 = range(len(SUMS))
_BISECTIONS: Final = 60


class State(StrEnum):
    """What is known about the lift; see docs/evidence.md."""

    COLLECTING = "collecting"
    EFFECT_FOUND = "effect_found"
    NULL_ACCEPTED = "null_accepted"


class Plan(msgspec.Struct, frozen=True):
    """What an experiment is told before it starts, and never after.

    Units: `interest` is the smallest lift that matters, in the unit of a send's value: for
    responses 0.01 is one point, for revenue minor units of currency. `alpha` is the chance of
    one wrong verdict, ever. No verdict comes before each arm has `subjects_min` and
    `answers_min`, since the bounds are asymptotic.
    """

    interest: float = 0.01
    alpha: float = 0.05
    holdout_share: float = 0.1
    subjects_min: int = 50
    answers_min: int = 20

    @property
    def expected_lift(self) -> float:
        """The lift at which the test is quickest."""
        return 2.0 * self.interest


class Bounds(NamedTuple):
    """A confidence sequence at one time, or at many. Shapes: equal for all; `ready` is bool."""

    lift: Any
    error: Any
    half_width: Any
    ready: Any


class Finding(msgspec.Struct, frozen=True):
    """What the sums say now.

    Units: of a send's value; rates are means per send. Before there is enough to judge, the
    interval is infinite, and so is the detectable lift. `sends_needed` are further sends of both
    arms until a verdict, if people and lift stay as they look now; -1 when that cannot be told.
    """

    state: State
    lift: float
    low: float
    high: float
    detectable: float
    sends_needed: int
    optimised_rate: float
    holdout_rate: float
    log_e: float


def subject_sums(
    arms: npt.ArrayLike, sends: npt.ArrayLike, answers: npt.ArrayLike, value: npt.ArrayLike
) -> Array:
    """Sums by arm of subjects given whole, for example from a table.

    Shapes: one place for each subject; gives (2, 7), the optimised arm first.

    >>> subject_sums([0, 0, 1], [1, 3, 2], [1, 0, 1], [1, 0, 1])[:, :4].tolist()
    [[2.0, 4.0, 1.0, 1.0], [1.0, 2.0, 1.0, 1.0]]
    """
    arm = np.asarray(arms, np.intp)
    n, hits, x = (np.asarray(part, np.float64) for part in (sends, answers, value))
    columns = (n > 0, n, hits, x, n * n, n * x, x * x)
    return np.stack([np.bincount(arm, column, 2)[:2] for column in columns], axis=1)


def normal_bound(error: Any, scale: float, alpha: float) -> Any:
    """How far an estimate may be off at any time, with chance `alpha` of ever being farther.

    Source: Robbins' normal mixture, after Waudby-Smith et al. (2024), Time-uniform central limit
    theory and asymptotic confidence sequences; `scale` is the mixture's, as an effect.
    """
    variance = error * error
    ratio = variance / (scale * scale)
    return np.sqrt(variance * (1 + ratio) * (np.log1p(1 / ratio) + 2 * math.log(1 / alpha)))


def bounds_of(sums: Array, plan: Plan) -> Bounds:
    """The confidence sequence of optimised minus holdout.

    A subject keeps its arm for ever, so subjects are what was randomised, and the spread is taken
    over subjects: sends of one person do not pass for independent ones.
    Shapes: sums (…, 2, 7), results (…).
    Source: ratio estimator with linearised variance (Deng et al. 2018, Applying the delta method
    in metric analytics); the weight of the pooled spread is ours, see docs/evidence.md.
    """
    by_arm = np.asarray(sums, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = _spread(by_arm.sum(axis=-2))
        own = _spread(by_arm)
        subjects, sends = by_arm[..., _SUBJECTS], by_arm[..., _SENDS]
        weight = POOLED_ANSWERS / (POOLED_ANSWERS + by_arm[..., _ANSWERS])
        spread = weight * np.maximum(pooled[..., None], own) + (1 - weight) * own
        variance = (spread * subjects / (sends * sends)).sum(axis=-1)
        rate = by_arm[..., _VALUE] / sends
        lift = rate[..., OPTIMISED] - rate[..., HOLDOUT]
        error = np.sqrt(variance)
        half = normal_bound(error, plan.expected_lift, plan.alpha)
    enough = (subjects >= plan.subjects_min) & (by_arm[..., _ANSWERS] >= plan.answers_min)
    ready = enough.all(axis=-1) & (error > 0)
    return Bounds(lift, error, half, ready)


def _spread(sums: Array) -> Array:
    """Variance over subjects of what one has above or below the rate of all."""
    rate = sums[..., _VALUE] / sums[..., _SENDS]
    squares = (
        sums[..., _VALUE_2] - 2 * rate * sums[..., _SENDS_VALUE] + rate * rate * sums[..., _SENDS_2]
    )
    spread: Array = np.maximum(squares, 0.0) / np.maximum(sums[..., _SUBJECTS] - 1, 1)
    return spread


def states_of(bounds: Bounds, plan: Plan) -> tuple[Any, Any]:
    """Where an effect is found and where the null is accepted, neither being elsewhere."""
    distance = np.abs(bounds.lift)
    accepted = bounds.ready & (distance + bounds.half_width < plan.interest)
    found = bounds.ready & ~accepted & (distance > bounds.half_width)
    return found, accepted


def judge(sums: Array, plan: Plan, before: State = State.COLLECTING) -> Finding:
    """The verdict now. A verdict once given stays until the other one is proven.

    Accepting the null means that the whole interval lies within ± `interest`; an effect that is
    proven but lies within it counts as none.
    """
    bounds = bounds_of(sums, plan)
    rates = np.divide(sums[:, _VALUE], sums[:, _SENDS], out=np.zeros(2), where=sums[:, _SENDS] > 0)
    optimised, holdout = float(rates[OPTIMISED]), float(rates[HOLDOUT])
    lift = optimised - holdout
    if not bool(bounds.ready):
        endless = math.inf
        return Finding(before, lift, -endless, endless, endless, -1, optimised, holdout, 0.0)
    found, accepted = states_of(bounds, plan)
    state = State.NULL_ACCEPTED if accepted else State.EFFECT_FOUND if found else before
    half, error = float(bounds.half_width), float(bounds.error)
    return Finding(
        state=state,
        lift=lift,
        low=lift - half,
        high=lift + half,
        detectable=half + POWER_Z * error,
        sends_needed=_sends_needed(lift, error, float(sums[:, _SENDS].sum()), plan),
        optimised_rate=optimised,
        holdout_rate=holdout,
        log_e=_log_e(lift, error, plan),
    )


def _log_e(lift: float, error: float, plan: Plan) -> float:
    """Natural log of the evidence against a lift of exactly 0."""
    ratio = (plan.expected_lift / error) ** 2
    return 0.5 * (lift / error) ** 2 * ratio / (1 + ratio) - 0.5 * math.log1p(ratio)


def _sends_needed(lift: float, error: float, sends: float, plan: Plan) -> int:
    """Further sends until the interval leaves 0 or fits into ± interest, whichever is nearer."""
    target = max(abs(lift), plan.interest - abs(lift))
    if float(normal_bound(error, plan.expected_lift, plan.alpha)) < target:
        return 0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        wide = float(normal_bound(error * middle, plan.expected_lift, plan.alpha)) > target
        low, high = (low, middle) if wide else (middle, high)
    return math.ceil(sends * (1 / low**2 - 1)) if low > 0 else -1
