"""The questions that evaluation asks ClickHouse; values are always parameters."""

from __future__ import annotations

from typing import Final

DECISIONS: Final = """SELECT d.subject, d.chosen_slot, d.propensity, hex(d.allowed),
    if(empty(d.alternatives), 255, arrayReverseSort(a -> a.2, d.alternatives)[1].1),
    o.responded
FROM
(
    SELECT decision_id, requested_at, subject, chosen_slot, propensity, allowed, alternatives
    FROM decisions FINAL
    WHERE requested_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
        AND arm = 'optimised' AND chosen_slot < 168 AND propensity > 0
        AND ({campaign:String} = '' OR campaign = {campaign:String})
) AS d
JOIN
(
    SELECT decision_id, responded
    FROM decision_outcomes FINAL
    WHERE requested_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
        AND ({campaign:String} = '' OR campaign = {campaign:String})
) AS o
ON d.decision_id = o.decision_id
ORDER BY d.requested_at DESC, d.decision_id
LIMIT {rows_max:UInt64}
SETTINGS do_not_merge_across_partitions_select_final = 1"""
"""Decisions of the optimised arm whose outcome is known, newest first. The slots of the holdout
were not drawn, so they say nothing about others."""

HOURS: Final = """SELECT d.subject, d.chosen_slot % 24 AS hour, count(), sum(o.responded)
FROM
(
    SELECT decision_id, subject, chosen_slot FROM decisions FINAL
    WHERE requested_at < fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
        AND chosen_slot < 168
        AND ({campaign:String} = '' OR campaign = {campaign:String})
) AS d
JOIN
(
    SELECT decision_id, responded FROM decision_outcomes FINAL
    WHERE requested_at < fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
        AND ({campaign:String} = '' OR campaign = {campaign:String})
) AS o
ON d.decision_id = o.decision_id
GROUP BY d.subject, hour
ORDER BY d.subject, hour
LIMIT {rows_max:UInt64}
SETTINGS do_not_merge_across_partitions_select_final = 1"""
"""What each person answered at which hour before the span that is judged, in any arm."""
