"""The questions of process mining, as SQL over `journeys`; values are always parameters.

Every question is about the journeys that started in a span of time, of one campaign or all; lines
about fewer than `k` people are left out. Acts are taken in the order of `acts`: by time, then by
how far an act brings a journey. Times of relations are from one act to the next.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from schemas.process import Process

ROWS_MAX: Final = 100_000

_START: Final = 999
_BASE: Final = 1_000
_NOTHING: Final = 999_999_999

_CHOSEN: Final = """chosen AS
(
    SELECT journey, subject, toString(campaign) AS of_campaign, toString(state) AS came_to, n,
        arrayMap(act -> toString(act), acts) AS path,
        arrayMap(one -> toUnixTimestamp64Milli(one), at) AS ms,
        toUnixTimestamp64Milli(last_at) AS last_ms
    FROM journeys FINAL
    WHERE started_at >= fromUnixTimestamp({since_s:UInt32})
        AND started_at < fromUnixTimestamp({until_s:UInt32})
        AND ({campaign:String} = '' OR campaign = {campaign:String})
)"""

_RELATIONS: Final = """relations AS
(
    SELECT journey, subject, step.1 AS source, step.2 AS target, step.3 / 1000 AS span_s,
        transform(source, {steps:Array(String)}, {waiting:Array(UInt8)}, toUInt8(0)) AS is_wait,
        transform(source, {steps:Array(String)}, {actors:Array(String)}, '') AS actor
    FROM chosen
    ARRAY JOIN arrayZip(
        arrayPushFront(path, ''), arrayPushBack(path, ''),
        arrayMap((a, b) -> b - a, arrayPushFront(ms, ms[1]), arrayPushBack(ms, ms[-1]))) AS step
)"""

# Acts by number, pairs of acts as one number: both are looked up in a hash, not searched.
_JUDGED: Final = """judged AS
(
    WITH arrayWithConstant(length({allowed:Array(UInt64)}), toUInt8(1)) AS yes_allowed,
        arrayWithConstant(length({until:Array(UInt64)}), toUInt8(1)) AS yes_until,
        arrayWithConstant(length({ends:Array(UInt64)}), toUInt8(1)) AS yes_ends
    SELECT journey, subject, path, ms, came_to, last_ms, length(path) = n AS whole,
        arrayMap(act -> toUInt64(indexOf({steps:Array(String)}, act)), path) AS c,
        arrayMap(i -> if(i = 1, toUInt64(999), c[i - 1]), arrayEnumerate(c)) AS before,
        arrayMap((one, x) -> one + 1000 * transform(x, {timed:Array(UInt64)},
            {deadlines_s:Array(UInt32)}, toUInt32(0)), ms, c) AS due,
        arrayFilter(i -> ms[i] < {now_ms:Int64} AND transform(before[i] * 1000 + c[i],
            {allowed:Array(UInt64)}, yes_allowed, toUInt8(0)) = 0,
            arrayEnumerate(c)) AS bad,
        arrayFilter(i -> due[i] > ms[i] AND due[i] < {now_ms:Int64}
            AND (whole OR due[i] <= ms[-1])
            AND NOT arrayExists(j -> j > i AND ms[j] <= due[i] AND transform(c[i] * 1000 + c[j],
                {until:Array(UInt64)}, yes_until, toUInt8(0)) = 1,
                arrayEnumerate(c)), arrayEnumerate(c)) AS overdue,
        arrayMap(k -> arrayFirstIndex(x -> transform(k * 1000 + x,
            {ends:Array(UInt64)}, yes_ends, toUInt8(0)) = 1, c),
            arrayEnumerate({needs:Array(UInt64)})) AS ended,
        arrayFilter(k -> ended[k] > 0 AND ms[ended[k]] < {now_ms:Int64}
            AND NOT has(arraySlice(c, 1, ended[k]), {needs:Array(UInt64)}[k]),
            arrayEnumerate(ended)) AS missing,
        arrayFilter(k -> ended[k] = 0 AND whole AND came_to = 'timed_out'
            AND {silent:Array(UInt8)}[k] = 1
            AND NOT has(c, {needs:Array(UInt64)}[k]), arrayEnumerate(ended)) AS silent_missing
    FROM chosen
),
deviations AS
(
    SELECT journey, subject, found.1 AS kind, found.2 AS previous, found.3 AS act,
        concat(kind, ':', if(kind = 'forbidden', concat(previous, '>'), ''), act) AS rule,
        if(kind = 'forbidden' AND previous != '', previous, act) AS step,
        min(found.4) AS at_ms
    FROM judged
    ARRAY JOIN arrayConcat(
        arrayMap(i -> ('forbidden', if(i = 1, '', path[i - 1]), path[i], ms[i]), bad),
        arrayMap(i -> ('overdue', '', path[i], due[i]), overdue),
        arrayMap(k -> ('missing', '', {steps:Array(String)}[{needs:Array(UInt64)}[k]],
            ms[ended[k]]), missing),
        arrayMap(k -> ('missing', '', {steps:Array(String)}[{needs:Array(UInt64)}[k]],
            last_ms + {timeout_ms:Int64}), silent_missing)) AS found
    GROUP BY journey, subject, kind, previous, act
)"""

_LIMIT: Final = """LIMIT {rows_max:UInt32}
SETTINGS do_not_merge_across_partitions_select_final = 1"""


def _ask(*parts: str) -> str:
    """A question: its common tables, then what is asked of them."""
    return " ".join(("WITH", ", ".join(parts[:-1]), parts[-1], _LIMIT))


class View(NamedTuple):
    """One question: its SQL, the names of its columns, and whether lines are single journeys."""

    sql: str
    columns: tuple[str, ...]
    single: bool = False


DFG: Final = View(
    _ask(
        _CHOSEN,
        _RELATIONS,
        """SELECT source, target, count() AS passes, uniqExact(journey) AS journeys,
    if(source = '' OR target = '', '', if(any(is_wait) = 1, 'waiting', 'working')) AS then,
    quantileTDigest(0.5)(span_s) AS p50_s, quantileTDigest(0.95)(span_s) AS p95_s,
    sum(span_s) AS total_s
FROM relations GROUP BY source, target
HAVING uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') >= {k:UInt32}
ORDER BY passes DESC, source, target""",
    ),
    ("source", "target", "passes", "journeys", "then", "p50_s", "p95_s", "total_s"),
)
"""How often one act followed another, and after how long; no source is the start of a journey, no
target its last act so far."""

VARIANTS: Final = View(
    _ask(
        _CHOSEN,
        """SELECT arrayStringConcat(path, ' > ') AS variant, count() AS journeys,
    journeys / sum(journeys) OVER () AS share, length(any(path)) AS acts,
    quantileTDigest(0.5)((ms[-1] - ms[1]) / 1000) AS p50_s,
    quantileTDigest(0.95)((ms[-1] - ms[1]) / 1000) AS p95_s
FROM chosen GROUP BY variant
HAVING uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') >= {k:UInt32}
ORDER BY journeys DESC, variant""",
    ),
    ("variant", "journeys", "share", "acts", "p50_s", "p95_s"),
)
"""Journeys that had the same acts in the same order; shares are of the journeys shown."""

TIMES: Final = View(
    _ask(
        _CHOSEN,
        _RELATIONS,
        """spans AS
(
    SELECT journey, sum(span_s) AS cycle_s, sumIf(span_s, is_wait = 1) AS waiting_s,
        sumIf(span_s, is_wait = 1 AND actor = 'us') AS us_s,
        sumIf(span_s, is_wait = 1 AND actor = 'provider') AS provider_s,
        sumIf(span_s, is_wait = 1 AND actor = 'person') AS person_s
    FROM relations GROUP BY journey
)""",
        """SELECT came_to AS state, count() AS journeys,
    quantileTDigest(0.5)(spans.cycle_s) AS cycle_p50_s,
    quantileTDigest(0.95)(spans.cycle_s) AS cycle_p95_s,
    sum(spans.cycle_s) AS total_s, sum(spans.waiting_s) AS waiting_total_s,
    total_s - waiting_total_s AS working_total_s, sum(spans.us_s) AS waiting_on_us_s,
    sum(spans.provider_s) AS waiting_on_provider_s, sum(spans.person_s) AS waiting_on_person_s
FROM chosen JOIN spans USING (journey)
GROUP BY state HAVING uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') >= {k:UInt32}
ORDER BY journeys DESC, state""",
    ),
    (
        "state",
        "journeys",
        "cycle_p50_s",
        "cycle_p95_s",
        "total_s",
        "waiting_s",
        "working_s",
        "waiting_on_us_s",
        "waiting_on_provider_s",
        "waiting_on_person_s",
    ),
)
"""How long journeys took from their first act to their last, and whom they waited for."""

BOTTLENECKS: Final = View(
    _ask(
        _CHOSEN,
        _RELATIONS,
        """SELECT source, target, any(actor) AS waits_for, count() AS passes,
    quantileTDigest(0.5)(span_s) AS p50_s, quantileTDigest(0.95)(span_s) AS p95_s,
    sum(span_s) AS total_s, total_s / nullIf(sum(total_s) OVER (), 0) AS share
FROM relations WHERE is_wait = 1 AND target != ''
GROUP BY source, target HAVING uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') >= {k:UInt32}
ORDER BY total_s DESC, source, target""",
    ),
    ("source", "target", "waits_for", "passes", "p50_s", "p95_s", "total_s", "share"),
)
"""Where most time is spent waiting; shares are of the waiting shown."""

REWORK: Final = View(
    _ask(
        _CHOSEN,
        """looped AS
(
    SELECT journey, subject, act, countEqual(path, act) AS passes,
        arrayCount((a, b) -> a = act AND b = act, arrayPopBack(path), arrayPopFront(path)) AS twice,
        (ms[arrayLastIndex(one -> one = act, path)] - ms[indexOf(path, act)]) / 1000 AS loop_s
    FROM chosen ARRAY JOIN arrayDistinct(path) AS act
)""",
        """SELECT act, sum(passes) AS all_passes, count() AS journeys,
    countIf(passes > 1) AS journeys_again, sum(passes - 1) AS again, sum(twice) AS self_loops,
    sum(loop_s) AS loop_total_s
FROM looped GROUP BY act
HAVING again > 0
    AND uniqExactIf(subject, {k:UInt32} > 0 AND passes > 1 AND subject != '') >= {k:UInt32}
ORDER BY again DESC, act""",
    ),
    ("act", "passes", "journeys", "journeys_again", "again", "self_loops", "loop_s"),
)
"""Acts that came more than once on a journey: directly after themselves, or by a way round."""

STUCK: Final = View(
    _ask(
        _CHOSEN,
        """SELECT journey, of_campaign AS campaign, path[-1] AS act,
    fromUnixTimestamp64Milli(last_ms, 'UTC') AS since,
    ({now_ms:Int64} - last_ms) / 1000 AS waited_s,
    transform(toUInt64(indexOf({steps:Array(String)}, act)), {timed:Array(UInt64)},
        {deadlines_s:Array(UInt32)}, toUInt32(0)) AS allowed_s
FROM chosen
WHERE came_to = 'open' AND length(path) = n AND allowed_s > 0 AND waited_s > allowed_s
ORDER BY waited_s / allowed_s DESC, journey""",
    ),
    ("journey", "campaign", "act", "since", "waited_s", "allowed_s"),
    single=True,
)
"""Open journeys whose last act is older than its deadline."""

CONFORMANCE: Final = View(
    _ask(
        _CHOSEN,
        _JUDGED,
        """told AS
(
    SELECT '' AS rule, '' AS kind, journey, subject, toInt64(0) AS at_ms FROM chosen
    UNION ALL
    SELECT 'conforming', '', journey, subject, 0 FROM chosen
    WHERE journey NOT IN (SELECT journey FROM deviations)
    UNION ALL
    SELECT rule, kind, journey, subject, at_ms FROM deviations
)""",
        """SELECT if(rule = '', 'all', rule) AS name, kind, count() AS journeys,
    journeys / (SELECT nullIf(count(), 0) FROM chosen) AS share,
    if(kind = '', NULL, fromUnixTimestamp64Milli(min(at_ms), 'UTC')) AS first_at,
    if(kind = '', NULL, fromUnixTimestamp64Milli(max(at_ms), 'UTC')) AS last_at
FROM told GROUP BY rule, kind
HAVING uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') >= {k:UInt32}
ORDER BY kind != '', journeys DESC, name""",
    ),
    ("rule", "kind", "journeys", "share", "first_at", "last_at"),
)
"""How many journeys kept to the process, and which rules the others broke."""

AUDIT: Final = View(
    _ask(
        _CHOSEN,
        _JUDGED,
        """SELECT journey, rule, at_ms FROM deviations ORDER BY journey, at_ms, rule""",
    ),
    ("journey", "rule", "at_ms"),
    single=True,
)
"""Every exception, as `process_exceptions` would have it if all had been known at once."""

CANDIDATES: Final = View(
    _ask(
        _CHOSEN,
        _RELATIONS,
        _JUDGED,
        """again AS
(
    SELECT act, sum(countEqual(path, act) - 1) AS times
    FROM chosen ARRAY JOIN arrayDistinct(path) AS act GROUP BY act
)""",
        """broken AS (SELECT step, count() AS times FROM deviations GROUP BY step)""",
        """passed AS
(
    SELECT source AS act, any(actor) AS actor, any(is_wait) AS is_wait, count() AS passes,
        sum(span_s) / 3600 AS hours,
        uniqExactIf(subject, {k:UInt32} > 0 AND subject != '') AS people
    FROM relations WHERE source != '' GROUP BY source
)""",
        """SELECT passed.act AS name, if(passed.is_wait = 1, 'waiting', 'working') AS then,
    passed.actor AS actor, passed.passes AS volume, passed.hours / volume AS mean_h,
    toUInt64(broken.times + again.times) AS exceptions,
    least(exceptions / volume, 1) AS exception_rate,
    volume * mean_h * exception_rate AS score,
    transform(name, {steps:Array(String)}, {automatable:Array(Float64)}, toFloat64(0)) AS part,
    transform(name, {steps:Array(String)}, {handling_s:Array(Float64)}, toFloat64(0)) AS by_hand_s,
    part * (passed.hours * {waiting_hour:Float64}
        + (volume * by_hand_s + exceptions * {exception_handling_s:Float64}) / 3600
            * {handling_hour:Float64}) AS saving
FROM passed
LEFT JOIN again ON again.act = passed.act
LEFT JOIN broken ON broken.step = passed.act
WHERE part > 0 AND passed.people >= {k:UInt32}
ORDER BY score DESC, saving DESC, name""",
    ),
    (
        "act",
        "then",
        "actor",
        "volume",
        "mean_wait_h",
        "exceptions",
        "exception_rate",
        "score",
        "automatable",
        "handling_s",
        "saving_minor",
    ),
)
"""Steps that a machine could take over, in the order of volume x waiting x exception rate."""

VIEWS: Final = {
    "dfg": DFG,
    "variants": VARIANTS,
    "times": TIMES,
    "bottlenecks": BOTTLENECKS,
    "rework": REWORK,
    "stuck": STUCK,
    "conformance": CONFORMANCE,
    "candidates": CANDIDATES,
}
"""The questions by the name that they are asked by."""


class Scope(NamedTuple):
    """Which journeys a question is about, and as of when.

    Units: seconds and milliseconds since 1970 UTC; `timeout_ms` is when silence ends a journey.
    """

    since_s: int
    until_s: int
    now_ms: int
    timeout_ms: int
    campaign: str = ""
    k: int = 0
    rows_max: int = ROWS_MAX


def parameters_of(process: Process, scope: Scope) -> dict[str, Any]:
    """The values of every parameter that a view may have."""
    steps = list(process.steps)
    number = {name: place for place, name in enumerate(steps, 1)}
    number[""] = _START
    needs = process.needs
    pairs = [
        ("allowed", [_BASE * number[a] + number[b] for a, b in sorted(process.allowed)]),
        (
            "until",
            [
                _BASE * number[name] + number[act]
                for name, (_, acts) in process.deadlines.items()
                for act in sorted(acts)
            ],
        ),
        (
            "ends",
            [
                _BASE * place + number[act]
                for place, (_, acts, _) in enumerate(needs, 1)
                for act in sorted(acts)
            ],
        ),
    ]
    found: dict[str, Any] = {}
    for name, codes in pairs:
        # A table to look things up in must hold something.
        found[name] = codes or [_NOTHING]
    return {
        **found,
        **scope._asdict(),
        "steps": steps,
        "waiting": [int(step.then == "waiting") for step in process.steps.values()],
        "actors": [step.actor for step in process.steps.values()],
        "automatable": [float(step.automatable) for step in process.steps.values()],
        "handling_s": [float(step.handling_s) for step in process.steps.values()],
        "timed": [number[name] for name in process.deadlines] or [_NOTHING],
        "deadlines_s": [seconds for seconds, _ in process.deadlines.values()] or [0],
        "needs": [number[step] for step, _, _ in needs],
        "silent": [int(by_time_out) for _, _, by_time_out in needs],
        "waiting_hour": process.costs.waiting_hour,
        "handling_hour": process.costs.handling_hour,
        "exception_handling_s": process.costs.exception_handling_s,
    }
