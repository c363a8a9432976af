"""Weeks of delivery-time decisions as a flow would write them, for pages and questions about them.

Of the last day only responses are known: windows of the others are still open.

`python -m tests.decisions_played URL` fills the database of that address, to look at pages; people
and campaigns are invented.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from flows.model.delivery_time import DeliveryTimeModel
from flows.model.evidence.compare import Plan
from flows.model.evidence.experiment import Result
from flows.timing.feedback import HOLDOUT, OPTIMISED, Lesson, Send
from flows.timing.trial import HoldoutRule, Trial, odds_of_bins
from flows.timing_bench.play import draw_allowed
from flows.timing_bench.worlds import DAY, WEEK, WORLDS, make_crowd
from schemas.blocks import Rows

CAMPAIGNS: Final = ("spring", "winback")
_EXPIRES: Final = datetime(2099, 1, 1, tzinfo=UTC).date()
_HOUR: Final = timedelta(hours=1)


class Told(NamedTuple):
    """What was written. Shapes: rows by table; the verdict after the last day."""

    rows: dict[str, list[dict[str, Any]]]
    result: Result


def play_decisions(
    *, world: str = "strong", people: int = 300, days: int = 28, until: datetime, seed: int = 7
) -> Told:
    """Play a world: a message a day and person, whose outcome is known the day after."""
    crowd = make_crowd(WORLDS[world], people=people, seed=seed)
    rng = np.random.default_rng([seed, 3])
    names = [f"usr_{number:016x}" for number in range(people)]
    rule = HoldoutRule(b"invented holdout key", 0.25)
    arms = np.array([HOLDOUT if rule.holds(name) else OPTIMISED for name in names])
    model = DeliveryTimeModel(seed=seed)
    plan = Plan(holdout_share=0.25, interest=0.01)
    trial = Trial(plan, subjects_max=people, floor=0.02)
    rows: dict[str, list[dict[str, Any]]] = {
        "decisions": [],
        "decision_outcomes": [],
        "experiment_results": [],
    }
    start = until - timedelta(days=days)
    result = None
    for day in range(days):
        at = start + timedelta(days=day)
        at_ms = int(at.timestamp() * 1_000)
        trial.assign(names, arms.tolist(), at_ms=at_ms)
        allowed = draw_allowed(people, day, rng)
        even = allowed / allowed.sum(axis=1, keepdims=True)
        odds = np.where((arms == OPTIMISED)[:, None], model.odds(names, allowed), even)
        expected = model.predict(names)
        cut = odds.cumsum(axis=1)
        slots = (rng.random((people, 1)) * cut[:, -1:] > cut).sum(axis=1)
        who = np.arange(people)
        answers = rng.random(people) < crowd.answer[who, slots]
        active = (rng.random((people, 1)) > crowd.activity.cumsum(axis=1)).sum(axis=1)
        model.observe_activity(names, active.clip(0, WEEK - 1))
        ids = [f"dec-{seed}-{day:04d}-{number:05d}" for number in range(people)]
        bins = odds_of_bins(odds)
        sends = [
            Send(
                subject=names[n],
                campaign=CAMPAIGNS[n % 2],
                goal="",
                window_ms=0,
                channel="push",
                arm=int(arms[n]),
                phase=0,
                train=True,
                at_ms=at_ms,
                slot=int(slots[n]),
                propensity=float(odds[n, slots[n]]),
                odds=bins[n] if arms[n] == OPTIMISED else b"",
                expected=float(expected[n, slots[n]]),
                kept=True,
            )
            for n in range(people)
        ]
        for n, send in enumerate(sends):
            asked = at + _HOUR * int(rng.integers(0, DAY))
            known = {"decision_id": ids[n], "requested_at": asked, "campaign": send.campaign}
            held = send.arm == HOLDOUT
            rows["decisions"].append(
                known
                | {
                    "event_id": f"evt-{ids[n]}",
                    "journey": f"jrn-{ids[n]}",
                    "subject": send.subject,
                    "channel": send.channel,
                    "arm": "holdout" if held else "optimised",
                    "decided_at": asked,
                    "chosen_at": asked + _HOUR * int((send.slot - day * DAY) % WEEK),
                    "chosen_slot": send.slot,
                    "propensity": send.propensity,
                    "score": send.expected,
                    "reason": "holdout" if held else trial.experiment.state.value,
                    "model": "latent_class",
                    "model_version": str(day),
                    "policy": 1,
                    "expires_at": _EXPIRES,
                    "ver": 1,
                }
            )
            if day == days - 1 and not answers[n]:
                continue
            rows["decision_outcomes"].append(
                known
                | {
                    "subject": send.subject,
                    "responded": int(answers[n]),
                    "responded_at": asked + _HOUR
                    if answers[n]
                    else datetime(1970, 1, 1, tzinfo=UTC),
                    "corrected": 0,
                    "expires_at": _EXPIRES,
                    "ver": 1,
                }
            )
        model.learn(names, slots, answers)
        trial.add([Lesson("", send, bool(answers[n])) for n, send in enumerate(sends)])
        result = trial.judge([], at_ms=at_ms + DAY * 3_600_000)
        assert result is not None
        rows["experiment_results"].append(_of(result.to_rows()))
    rows["experiments"] = [_of(trial.experiment.to_rows())]
    assert result is not None
    return Told(rows, result)


def _of(rows: Rows) -> dict[str, Any]:
    """The one row of some, with times as times."""
    row = {name: values[0] for name, values in rows.columns.items()}
    for name in {"at", "started_at", "decided_at"} & set(row):
        row[name] = datetime.fromtimestamp(row[name] / 1_000, UTC)
    if "slots" in row:
        row["slots"] = [tuple(slot.values()) for slot in row["slots"]]
    return row


def write(client: Client, told: Told) -> None:
    """Insert everything."""
    for table, rows in told.rows.items():
        names = list(rows[0])
        client.insert(table, [[row[name] for name in names] for row in rows], column_names=names)


if __name__ == "__main__":
    with connect(ClickHouseAddress(sys.argv[1], "airside")) as opened:
        write(opened, play_decisions(people=600, days=42, until=datetime.now(UTC)))
