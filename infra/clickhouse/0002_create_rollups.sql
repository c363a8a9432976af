-- Absolute values per lane: the row with the greatest version wins, so a repeat changes nothing.
CREATE TABLE rollup_1m_lanes
(
    w DateTime('UTC') COMMENT 'minute of event time',
    event_type LowCardinality(String),
    campaign LowCardinality(String),
    channel LowCardinality(String),
    class LowCardinality(String),
    currency LowCardinality(String),
    lane UInt16 COMMENT 'the only writer of this row',
    n UInt64 COMMENT 'events',
    amount_minor Int64 COMMENT 'in minor units of the currency',
    latency_hist Array(UInt64) COMMENT 'event time to record time: bucket 0 is 0 ms, bucket i is [2^(i-1), 2^i) ms',
    recorded_at DateTime('UTC') COMMENT 'newest record folded in',
    ver UInt64 COMMENT 'generation << 40 | events folded in'
)
ENGINE = ReplacingMergeTree(ver)
PARTITION BY toYYYYMM(w)
ORDER BY (w, event_type, campaign, channel, class, currency, lane)
TTL recorded_at + INTERVAL 90 DAY DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Rollups per minute and lane. Owner: data';

CREATE VIEW rollup_1m AS
SELECT
    w, event_type, campaign, channel, class, currency,
    sum(n) AS n,
    sum(amount_minor) AS amount_minor,
    sumForEach(latency_hist) AS latency_hist,
    max(recorded_at) AS recorded_at
FROM rollup_1m_lanes FINAL
GROUP BY w, event_type, campaign, channel, class, currency;
