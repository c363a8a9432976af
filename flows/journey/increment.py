"""What notifications earn beyond what would have come without them: against the holdout.

People of the permanent holdout get no message; what they do all the same is what the others would
have done. The interval holds at any time, however often one looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from flows.model.evidence.compare import HOLDOUT, OPTIMISED, Plan, judge, subject_sums

PER: Final = 1_000

PEOPLE_SQL: Final = """SELECT
    arm = 'holdout' AS held_out, count() AS journeys, countIf(converted) AS conversions,
    sumIf(amount_minor - refunded_minor, currency = {currency:String}) AS revenue
FROM journeys FINAL
WHERE started_at >= fromUnixTimestamp({since_s:UInt32})
    AND started_at < fromUnixTimestamp({until_s:UInt32})
    AND ({campaign:String} = '' OR campaign = {campaign:String})
GROUP BY subject, held_out"""
"""One line for each person and arm, without a name."""


class Increment(NamedTuple):
    """One figure per 1,000 notifications, against the holdout.

    Units: conversions, or minor units of the currency. `low` and `high` are infinite as long as
    there is too little to judge; `state` is that of `flows.model.evidence.compare`.
    """

    figure: str
    told: float
    held_out: float
    lift: float
    low: float
    high: float
    state: str


def increments(lines: Sequence[tuple[Any, ...]], plans: dict[str, Plan]) -> list[Increment]:
    """Conversions and revenue per 1,000 notifications beyond the holdout's.

    Shapes: lines as `PEOPLE_SQL` gives them; `plans` for `conversions` and `revenue`, in the
    unit of one notification.
    """
    table = np.array([tuple(map(float, line)) for line in lines], np.float64).reshape(-1, 4)
    arms = np.where(table[:, 0] > 0, HOLDOUT, OPTIMISED)
    found = []
    for place, figure in ((2, "conversions"), (3, "revenue")):
        value = table[:, place]
        sums = subject_sums(arms, table[:, 1], np.minimum(table[:, 2], table[:, 1]), value)
        verdict = judge(sums, plans[figure])
        found.append(
            Increment(
                figure,
                verdict.optimised_rate * PER,
                verdict.holdout_rate * PER,
                verdict.lift * PER,
                verdict.low * PER,
                verdict.high * PER,
                str(verdict.state),
            )
        )
    return found
