-- How far each lane's rollup cells are closed: the lane writes no cell of an earlier minute any
-- more, so a correction of it stays.
CREATE TABLE rollup_floors
(
    lane UInt16 COMMENT 'the only writer of this row',
    floor DateTime('UTC') COMMENT 'first minute that the lane may still write',
    ver UInt64 COMMENT 'minutes since 1970'
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY lane
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Closed rollup cells by lane. Read with FINAL. Owner: data';

-- What `airside reconcile` found, one row for each run and scope.
CREATE TABLE reconciliations
(
    at DateTime64(3, 'UTC') COMMENT 'start of the run',
    scope LowCardinality(String) COMMENT 'minutes: rollup cells, hours: rollup_1m in closed hours, books: fates',
    compared UInt64 COMMENT 'cells, hours, or lines of the books',
    differing UInt64 COMMENT 'of them, before any repair',
    repaired UInt64,
    open UInt64 COMMENT 'differing, still written to by their worker',
    remaining UInt64 COMMENT 'differing, closed, not repaired and not explained'
)
ENGINE = ReplacingMergeTree
ORDER BY (at, scope)
TTL toDateTime(at) + INTERVAL 90 DAY DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Outcomes of reconciliation. Owner: data';

-- A cell that was corrected to no events at all keeps its row, so that it stays corrected; it is
-- not shown.
CREATE OR REPLACE VIEW rollup_1m AS
SELECT
    w, event_type, campaign, channel, class, currency,
    sum(n) AS n,
    sum(amount_minor) AS amount_minor,
    sumForEach(latency_hist) AS latency_hist,
    max(recorded_at) AS recorded_at
FROM rollup_1m_lanes FINAL
GROUP BY w, event_type, campaign, channel, class, currency
HAVING sum(rollup_1m_lanes.n) > 0;
