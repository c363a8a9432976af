"""The questions of panels that are no metrics, as SQL; values are always parameters.

Times are cut into steps of `step_s` seconds. Lines about fewer than `k` people are left out where
a question is about people; where it is not, it tells of messages, rules or the whole experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Form = Literal["count", "money", "percent", "number", "seconds", "text", "time", "yes"]

ROWS_MAX: Final = 5_000

_SPAN: Final = """>= fromUnixTimestamp({since_s:UInt32})
    AND requested_at < fromUnixTimestamp({until_s:UInt32})
    AND ({campaign:String} = '' OR campaign = {campaign:String})"""
_END: Final = """LIMIT {rows_max:UInt32}
SETTINGS do_not_merge_across_partitions_select_final = 1"""


class View(NamedTuple):
    """One question. Shapes: `columns` are the form of each column by its name, in order.

    `of_campaign` tells whether it can be asked of one campaign; `of_events` whether its lines are
    about events whose people it does not count, so that not every role may see them. `note` is what
    else there is to know of it.
    """

    sql: str
    columns: Mapping[str, Form]
    of_campaign: bool = True
    of_events: bool = False
    note: str = ""


def _lines(*parts: str) -> str:
    return "\n".join(parts)


def _sql(*parts: str) -> str:
    return _lines(*parts, _END)


_DECIDED: Final = _lines(
    "(SELECT decision_id, requested_at, subject, campaign, arm, chosen_at, chosen_slot,",
    "propensity, score, reason, model FROM decisions FINAL WHERE requested_at",
    _SPAN,
    ") AS d",
)
# A response is known at once and a silence when its window is over, so what is known of the newest
# decisions is mostly responses. A campaign's windows end in the order of its times, but for how far
# from its time a message may be sent: up to its last known silence, all of them are over.
_KNOWN: Final = _lines(
    "(SELECT d.*, o.responded AS responded, max(if(o.responded = 0 OR o.corrected = 1,",
    "d.chosen_at, toDateTime64(0, 3, 'UTC'))) OVER (PARTITION BY d.campaign) AS over_at FROM",
    _DECIDED,
    "JOIN (SELECT decision_id, responded, corrected FROM decision_outcomes FINAL",
    "WHERE requested_at",
    _SPAN,
    ") AS o ON d.decision_id = o.decision_id) AS d WHERE d.chosen_at <= d.over_at",
)
_STEP: Final = "toStartOfInterval(d.requested_at, toIntervalSecond({step_s:UInt32}))"
_ENOUGH: Final = "HAVING uniqExactIf(d.subject, {k:UInt32} > 0 AND d.subject != '') >= {k:UInt32}"

DOORS: Final = View(
    """SELECT sum(n) AS messages, sumIf(n, door = 'routed') AS routed,
    sumIf(n, door = 'quarantined') AS quarantined, sumIf(n, door = 'dropped') AS dropped,
    sumIf(n, door = 'late') AS late, 1 - routed / nullIf(messages, 0) AS not_routed
FROM fates FINAL""",
    {
        "messages": "count",
        "routed": "count",
        "quarantined": "count",
        "dropped": "count",
        "late": "count",
        "not_routed": "percent",
    },
    of_campaign=False,
    note="of all time",
)

_REFUSED: Final = """FROM quarantine FINAL
WHERE recorded_at >= fromUnixTimestamp({since_s:UInt32})
    AND recorded_at < fromUnixTimestamp({until_s:UInt32})"""

REFUSED: Final = View(
    _sql(
        """SELECT toStartOfInterval(recorded_at, toIntervalSecond({step_s:UInt32})) AS t,
    door, code, count() AS messages""",
        _REFUSED,
        "GROUP BY t, door, code HAVING messages >= {k:UInt32} ORDER BY t, door, code",
    ),
    {"t": "time", "door": "text", "code": "text", "messages": "count"},
    of_campaign=False,
)

FAULTS: Final = View(
    _sql(
        """SELECT code, pointer, source, event_type, any(reason) AS expected,
    count() AS messages, max(recorded_at) AS last_at""",
        _REFUSED,
        """GROUP BY code, pointer, source, event_type HAVING messages >= {k:UInt32}
ORDER BY messages DESC, code, pointer, source, event_type""",
    ),
    {
        "code": "text",
        "pointer": "text",
        "source": "text",
        "event_type": "text",
        "expected": "text",
        "messages": "count",
        "last_at": "time",
    },
    of_campaign=False,
)

# Each percentile is read off its bucket as if events lay evenly in it.
LATENCY: Final = View(
    _sql(
        """SELECT t, events, percentiles[1] AS p50, percentiles[2] AS p95, percentiles[3] AS p99
FROM
(
    SELECT toStartOfInterval(w, toIntervalSecond({step_s:UInt32})) AS t,
        sum(n) AS events, sumForEach(latency_hist) AS hist, arrayCumSum(hist) AS up_to,
        arrayMap(q -> (
            arrayFirstIndex(c -> c >= q * up_to[-1], up_to) AS place,
            if(place = 1, 0, exp2(place - 2)) AS low,
            (low + (if(place = 1, 0, exp2(place - 1)) - low)
                * (q * up_to[-1] - up_to[place] + hist[place]) / hist[place]) / 1000
        ).3, [0.5, 0.95, 0.99]) AS percentiles
    FROM rollup_1m_lanes FINAL
    WHERE w >= fromUnixTimestamp({since_s:UInt32}) AND w < fromUnixTimestamp({until_s:UInt32})
        AND ({campaign:String} = '' OR campaign = {campaign:String})
    GROUP BY t HAVING arraySum(hist) > 0
)
ORDER BY t"""
    ),
    {"t": "time", "events": "count", "p50": "seconds", "p95": "seconds", "p99": "seconds"},
    of_events=True,
)

# Everything since an experiment began; a lift is one where both arms were sent something.
_RESULTS: Final = _lines(
    "FROM (SELECT results.*, if(least(optimised_sends, holdout_sends) > 0, results.lift, NULL)",
    "AS known_lift, least(optimised_subjects, holdout_subjects) AS least_people",
    "FROM experiment_results AS results FINAL",
    "WHERE at >= (SELECT max(started_at) FROM experiments FINAL",
    "WHERE started_at < fromUnixTimestamp({until_s:UInt32}))",
    "AND at < fromUnixTimestamp({until_s:UInt32})",
)
_NEWEST: Final = _lines(_RESULTS, "ORDER BY at DESC LIMIT 1 ) AS r")
_SEEN: Final = "WHERE least_people >= {k:UInt32}"
_SINCE_START: Final = "of everything since the experiment began"

VERDICT: Final = View(
    _sql(
        """SELECT r.state, known_lift, r.low, r.high, r.detectable, r.sends_needed,
    r.optimised_answers / nullIf(r.optimised_sends, 0) AS optimised_rate,
    r.holdout_answers / nullIf(r.holdout_sends, 0) AS holdout_rate,
    r.optimised_sends, r.holdout_sends, r.optimised_subjects, r.holdout_subjects,
    r.split_wrong, r.slots_differ, r.clusters_exist, r.at AS as_of""",
        _NEWEST,
        _SEEN,
    ),
    {
        "state": "text",
        "lift": "percent",
        "low": "percent",
        "high": "percent",
        "detectable": "percent",
        "sends_needed": "count",
        "optimised_rate": "percent",
        "holdout_rate": "percent",
        "optimised_sends": "count",
        "holdout_sends": "count",
        "optimised_subjects": "count",
        "holdout_subjects": "count",
        "split_wrong": "yes",
        "slots_differ": "yes",
        "clusters_exist": "yes",
        "as_of": "time",
    },
    of_campaign=False,
    note=_SINCE_START,
)

LIFT: Final = View(
    _sql(
        """SELECT toStartOfInterval(r.at, toIntervalSecond({step_s:UInt32})) AS t,
    argMax(toString(r.state), r.at) AS came_to, argMax(tuple(known_lift), r.at).1 AS lift,
    argMax(tuple(r.low), r.at).1 AS low, argMax(tuple(r.high), r.at).1 AS high,
    argMax(tuple(r.detectable), r.at).1 AS detectable,
    argMax(r.optimised_sends + r.holdout_sends, r.at) AS sends""",
        _RESULTS,
        ") AS r",
        _SEEN,
        "AND r.at >= fromUnixTimestamp({since_s:UInt32}) GROUP BY t ORDER BY t",
    ),
    {
        "t": "time",
        "state": "text",
        "lift": "percent",
        "low": "percent",
        "high": "percent",
        "detectable": "percent",
        "sends": "count",
    },
    of_campaign=False,
)

ARMS: Final = View(
    _sql(
        f"SELECT {_STEP} AS t, d.arm AS arm, count() AS decisions,"
        " sum(d.responded) AS answers, answers / decisions AS rate",
        f"FROM {_KNOWN} GROUP BY t, arm {_ENOUGH} ORDER BY t, arm",
    ),
    {"t": "time", "arm": "text", "decisions": "count", "answers": "count", "rate": "percent"},
)

SLOTS: Final = View(
    _sql(
        """SELECT concat(if(slot.bin < 8, 'workdays ', 'weekends '),
        leftPad(toString(slot.bin % 8 * 3), 2, '0'), '-',
        leftPad(toString(slot.bin % 8 * 3 + 3), 2, '0')) AS part,
    slot.lift AS lift, slot.error AS standard_error, slot.log_e AS log_e, slot.found AS found""",
        _NEWEST,
        _lines("ARRAY JOIN r.slots AS slot", _SEEN, "ORDER BY slot.bin"),
    ),
    {
        "part": "text",
        "lift": "percent",
        "standard_error": "percent",
        "log_e": "number",
        "found": "yes",
    },
    of_campaign=False,
    note=_SINCE_START,
)

HOURS: Final = View(
    _sql(
        """SELECT intDiv(d.chosen_slot, 24) AS day, d.chosen_slot % 24 AS hour,
    ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][day + 1] AS weekday,
    count() AS decisions""",
        f"FROM {_DECIDED} WHERE d.arm = 'optimised' AND d.chosen_slot < 168",
        f"GROUP BY day, hour {_ENOUGH} ORDER BY day, hour",
    ),
    {"day": "count", "hour": "count", "weekday": "text", "decisions": "count"},
)

_WILSON: Final = """3.8416 / decisions AS doubt,
    (rate + doubt / 2) / (1 + doubt) AS middle,
    1.96 * sqrt(rate * (1 - rate) / decisions + doubt / (4 * decisions)) / (1 + doubt) AS half,
    middle - half AS low, middle + half AS high"""

HOLDOUT: Final = View(
    _sql(
        "SELECT hour, decisions, answers, rate, low, high FROM (",
        "SELECT d.chosen_slot % 24 AS hour, count() AS decisions, sum(d.responded) AS answers,",
        f"answers / decisions AS rate, {_WILSON}",
        f"FROM {_KNOWN} AND d.arm = 'holdout'",
        "AND d.chosen_slot < 168 AND d.propensity < 1",
        f"GROUP BY hour {_ENOUGH}) ORDER BY hour",
    ),
    {
        "hour": "count",
        "decisions": "count",
        "answers": "count",
        "rate": "percent",
        "low": "percent",
        "high": "percent",
    },
)

CALIBRATION: Final = View(
    _sql(
        """SELECT floor(d.score * 20) / 20 AS from_expected, count() AS decisions,
    avg(d.score) AS expected, avg(d.responded) AS rate, rate - expected AS difference""",
        f"FROM {_KNOWN} AND d.arm = 'optimised'",
        f"GROUP BY from_expected {_ENOUGH} ORDER BY from_expected",
    ),
    {
        "from_expected": "percent",
        "decisions": "count",
        "expected": "percent",
        "rate": "percent",
        "difference": "percent",
    },
)

REASONS: Final = View(
    _sql(
        f"SELECT {_STEP} AS t, d.arm AS arm, d.reason AS reason, count() AS decisions",
        f"FROM {_DECIDED} GROUP BY t, arm, reason {_ENOUGH} ORDER BY t, arm, reason",
    ),
    {"t": "time", "arm": "text", "reason": "text", "decisions": "count"},
)

MODELS: Final = View(
    _sql(
        """SELECT d.model AS model, d.campaign AS campaign, count() AS decisions,
    avg(d.score) AS expected, avg(d.responded) AS rate,
    -avg(log(greatest(if(d.responded, d.score, 1 - d.score), 1e-6))) AS log_loss""",
        f"FROM {_KNOWN} AND d.arm = 'optimised'",
        f"GROUP BY model, campaign {_ENOUGH} ORDER BY model, campaign",
    ),
    {
        "model": "text",
        "campaign": "text",
        "decisions": "count",
        "expected": "percent",
        "rate": "percent",
        "log_loss": "number",
    },
)

FAILURES: Final = View(
    _sql(
        """SELECT toStartOfInterval(w, toIntervalSecond({step_s:UInt32})) AS t, dimension,
    sum(quality.checked) AS checks, sum(quality.failed) / nullIf(checks, 0) AS failed
FROM quality FINAL
WHERE w >= fromUnixTimestamp({since_s:UInt32}) AND w < fromUnixTimestamp({until_s:UInt32})
GROUP BY t, dimension ORDER BY t, dimension"""
    ),
    {"t": "time", "dimension": "text", "checks": "count", "failed": "percent"},
    of_campaign=False,
)

CAMPAIGNS: Final = """SELECT toString(campaign) AS name, count() AS started FROM journeys FINAL
WHERE campaign != '' AND started_at >= fromUnixTimestamp({since_s:UInt32})
    AND started_at < fromUnixTimestamp({until_s:UInt32})
GROUP BY name HAVING uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') >= {k:UInt32}
ORDER BY started DESC, name LIMIT 200"""
"""The campaigns that there are to choose from."""

VIEWS: Final[Mapping[str, View]] = {
    "doors": DOORS,
    "refused": REFUSED,
    "faults": FAULTS,
    "latency": LATENCY,
    "verdict": VERDICT,
    "lift": LIFT,
    "arms": ARMS,
    "slots": SLOTS,
    "hours": HOURS,
    "holdout": HOLDOUT,
    "calibration": CALIBRATION,
    "reasons": REASONS,
    "models": MODELS,
    "failures": FAILURES,
}
"""The questions by the name that panels ask them by."""
