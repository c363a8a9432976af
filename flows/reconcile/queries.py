"""The questions that reconciliation asks ClickHouse; values are always parameters."""

from __future__ import annotations

from typing import Final

FLOORS: Final = "SELECT lane, toUnixTimestamp(floor) FROM rollup_floors FINAL"

LANES: Final = """SELECT lane, countIf(part % {lanes:UInt32} != lane) FROM fates GROUP BY lane"""

HOURS: Final = """SELECT toUnixTimestamp(hour), sum(rows) FROM
(
    SELECT toStartOfHour(w) AS hour, count() AS rows
    FROM rollup_1m_lanes WHERE recorded_at >= {since_s:UInt32} GROUP BY hour
    UNION ALL
    SELECT toStartOfHour(event_time) AS hour, count() AS rows
    FROM facts WHERE recorded_at >= fromUnixTimestamp({since_s:UInt32}) GROUP BY hour
)
GROUP BY hour ORDER BY hour LIMIT {hours_max:UInt32}"""
"""Hours of event time with a cell whose newest record is recent, and about how many rows each."""

CELLS: Final = """WITH
    toStartOfMinute(event_time) AS minute,
    toUnixTimestamp64Milli(recorded_at) - toUnixTimestamp64Milli(event_time) AS latency_ms,
    bitCount(roundToExp2(toUInt64(greatest(latency_ms, 1))) - 1) + 1 AS bits,
    if(latency_ms <= 0, 0, least(31, bits)) AS bucket,
    bitShiftLeft(toUInt64(part), 40) + off + 1 AS place,
    parts AS
    (
        SELECT minute AS w, event_type, campaign, channel, class, currency, arm,
            toUInt16(part % {lanes:UInt32}) AS lane, toUInt8(bucket) AS b, count() AS c,
            if((w, event_type, place) IN
                (SELECT w, event_type, late FROM rollup_1m_lanes
                WHERE late > 0 AND w >= {from_s:UInt32} AND w < {until_s:UInt32}),
                place, 0) AS late,
            sum(amount_minor) AS amount, max(recorded_at) AS newest
        FROM facts FINAL
        WHERE event_time >= fromUnixTimestamp({from_s:UInt32})
            AND event_time < fromUnixTimestamp({until_s:UInt32})
        GROUP BY ALL
    ),
    counted AS
    (
        SELECT w, event_type, campaign, channel, class, currency, arm, lane, late, 1 AS wanted,
            sum(c) AS n, sum(amount) AS amount_minor,
            sumForEach(arrayMap(at -> if(at = b, c, 0), range(32))) AS latency_hist,
            toUInt32(toUnixTimestamp(max(newest))) AS recorded_s, toUInt64(0) AS ver
        FROM parts GROUP BY w, event_type, campaign, channel, class, currency, arm, lane, late
        UNION ALL
        SELECT w, event_type, campaign, channel, class, currency, arm, lane, late, 0 AS wanted,
            n, amount_minor, latency_hist, toUnixTimestamp(recorded_at) AS recorded_s, ver
        FROM rollup_1m_lanes FINAL
        WHERE w >= {from_s:UInt32} AND w < {until_s:UInt32}
    ),
    cells AS
    (
        SELECT w, event_type, campaign, channel, class, currency, arm, lane, late,
            sumIf(n, wanted = 1) AS facts_n, sumIf(n, wanted = 0) AS rollup_n,
            sumIf(amount_minor, wanted = 1) AS facts_amount,
            sumIf(amount_minor, wanted = 0) AS rollup_amount,
            anyIf(latency_hist, wanted = 1) AS facts_hist,
            anyIf(latency_hist, wanted = 0) AS rollup_hist,
            max(recorded_s) AS newest_s, max(ver) AS version,
            facts_n != rollup_n OR facts_amount != rollup_amount
                OR arrayResize(facts_hist, 32) != arrayResize(rollup_hist, 32)
                OR length(rollup_hist) > 32 AS differs
        FROM counted GROUP BY w, event_type, campaign, channel, class, currency, arm, lane, late
        HAVING newest_s >= {since_s:UInt32}
    )
SELECT toUnixTimestamp(toStartOfHour(w)) AS hour_s, count(), countIf(differs), sum(rollup_n),
    groupArrayIf({differences_max:UInt32})(
        (toUnixTimestamp(w), toString(event_type), toString(campaign), toString(channel),
            toString(class), toString(currency), toString(arm), lane, late, newest_s, version,
            facts_n, facts_amount, arrayResize(facts_hist, 32), rollup_n, rollup_amount),
        differs)
FROM cells GROUP BY hour_s ORDER BY hour_s
SETTINGS do_not_merge_across_partitions_select_final = 1"""
"""What the facts say of each row, and what it says. An event that has a row of its own is in no
other."""

HOURS_AS_READ: Final = """SELECT hour_s, currency,
    sum(facts_n), sum(rollup_n), sum(facts_amount), sum(rollup_amount)
FROM
(
    SELECT toUnixTimestamp(toStartOfHour(event_time)) AS hour_s, toString(currency) AS currency,
        count() AS facts_n, 0 AS rollup_n, sum(amount_minor) AS facts_amount, 0 AS rollup_amount
    FROM facts FINAL
    WHERE event_time >= fromUnixTimestamp({from_s:UInt32})
        AND event_time < fromUnixTimestamp({until_s:UInt32})
    GROUP BY ALL
    UNION ALL
    SELECT toUnixTimestamp(toStartOfHour(w)) AS hour_s, toString(currency) AS currency,
        0 AS facts_n, sum(n) AS rollup_n, 0 AS facts_amount, sum(amount_minor) AS rollup_amount
    FROM rollup_1m
    WHERE w >= {from_s:UInt32} AND w < {until_s:UInt32}
    GROUP BY ALL
)
GROUP BY hour_s, currency ORDER BY hour_s, currency
SETTINGS do_not_merge_across_partitions_select_final = 1"""
"""Hours as analysts read them, through the view; a second way, apart from the lanes' cells."""

BOOKS: Final = """WITH
    entries AS
    (
        SELECT toString(topic) AS topic, part, run, toString(door) AS door, toString(code) AS code,
            n AS booked, 0 AS found, 0 AS held, 0 AS old
        FROM fates FINAL
        UNION ALL
        SELECT toString(topic), part, intDiv(off, {run:UInt32}), 'routed', '',
            0, uniqExact(off), 0, countIf(recorded_at < fromUnixTimestamp({since_s:UInt32}))
        FROM facts GROUP BY ALL
        UNION ALL
        SELECT toString(topic), part, intDiv(off, {run:UInt32}), 'routed', '', 0, 0, count(), 0
        FROM facts FINAL WHERE recorded_at >= fromUnixTimestamp({since_s:UInt32}) GROUP BY ALL
        UNION ALL
        SELECT toString(topic), part, intDiv(off, {run:UInt32}), toString(door), toString(code),
            0, uniqExact(off), uniqExact(off),
            countIf(recorded_at < fromUnixTimestamp({since_s:UInt32}))
        FROM quarantine GROUP BY ALL
    ),
    lines AS
    (
        SELECT topic, part, run, door, code,
            sum(booked) AS booked, sum(found) AS found, sum(held) AS held, sum(old) AS old
        FROM entries GROUP BY topic, part, run, door, code
    ),
    spans AS
    (
        SELECT topic, part, max(run) AS last_run,
            if(countIf(found > old) = 0, last_run + 1,
                greatest(minIf(run, found > old), maxIf(run + 1, old > 0))) AS first_run
        FROM lines GROUP BY topic, part
    )
SELECT count(), countIf(booked != held),
    groupArrayIf({differences_max:UInt32})(
        (topic, part, run, door, code, booked, found, held, run = last_run), booked != held)
FROM lines JOIN spans USING (topic, part)
WHERE run >= first_run
SETTINGS do_not_merge_across_partitions_select_final = 1"""
"""The books against the offsets of stored rows: `found` counts rows that a repeat replaced, as
long as they are not merged away; `held` does not."""

RECENT_EVENTS: Final = """SELECT (SELECT count() FROM journeys),
    (SELECT count() FROM facts WHERE subject != '' AND journey IN
        (SELECT journey FROM facts
        WHERE subject != '' AND recorded_at >= fromUnixTimestamp({since_s:UInt32})))"""
"""Whether there are journeys at all, and how many rows the facts of the recent ones have."""

JOURNEY_FACTS: Final = """SELECT cityHash64(journey), journey, event_id, toString(source),
    toString(event_type), toUnixTimestamp64Milli(event_time), toString(channel), subject,
    notification, toString(campaign), toString(tenant), toString(arm), toString(reason),
    toString(purpose), toString(class), sensitivity, length(hops),
    dateDiff('day', toDate32('1970-01-01'), expires_at), amount_minor, toString(currency),
    toUnixTimestamp(recorded_at)
FROM facts FINAL
WHERE subject != '' AND cityHash64(journey) % {parts:UInt32} = {part:UInt32} AND journey IN
    (SELECT journey FROM facts
    WHERE subject != '' AND recorded_at >= fromUnixTimestamp({since_s:UInt32}))
SETTINGS do_not_merge_across_partitions_select_final = 1"""
"""All facts of the journeys that have a recent one."""

JOURNEY_ROWS: Final = """SELECT cityHash64(journey), journey, subject, notification,
    toString(campaign), toString(tenant), toString(channel), toString(arm), toString(purpose),
    toString(class), sensitivity, toString(stage), rank, toString(state),
    toUnixTimestamp64Milli(started_at),
    toUnixTimestamp64Milli(last_at), n, arrayMap(act -> toString(act), acts),
    arrayMap(one -> toUnixTimestamp64Milli(one), at), hops, propensity, amount_minor,
    refunded_minor, toString(currency), opened_human, opened_machine, clicked, converted,
    dateDiff('day', toDate32('1970-01-01'), expires_at), ver
FROM journeys FINAL
WHERE cityHash64(journey) % {parts:UInt32} = {part:UInt32} AND
    (last_at >= fromUnixTimestamp({since_s:UInt32}) OR journey IN
        (SELECT journey FROM facts
        WHERE subject != '' AND recorded_at >= fromUnixTimestamp({since_s:UInt32})))"""
"""Rows of journeys with a recent fact or event, in the order of the journey flow's columns."""

OUTCOME_ROWS: Final = """SELECT outcome_id, toString(model), slot, toString(kind),
    toUnixTimestamp64Milli(at), journey, amount_minor, toString(currency), weight
FROM outcomes FINAL
WHERE cityHash64(journey) % {parts:UInt32} = {part:UInt32} AND
    (at >= fromUnixTimestamp({since_s:UInt32}) OR journey IN
        (SELECT journey FROM facts
        WHERE subject != '' AND recorded_at >= fromUnixTimestamp({since_s:UInt32})))"""
