-- Quality of data: absolute values per minute and lane, so a repeat changes nothing.
CREATE TABLE quality
(
    w DateTime('UTC') COMMENT 'minute of event time; of refused messages, the minute that the lane had reached',
    dataset LowCardinality(String) COMMENT 'topic',
    producer LowCardinality(String) COMMENT 'ce_source; (other) beyond the bound, (unknown) where it could not be read',
    rule LowCardinality(String) COMMENT 'see schemas/quality.yaml',
    dimension LowCardinality(String),
    checked UInt64 COMMENT 'messages that the rule is about',
    failed UInt64 COMMENT 'of these, those that break it',
    severity LowCardinality(String) COMMENT 'ok, warn or error, by the bounds of the rule',
    lane UInt16 COMMENT 'the only writer of this row',
    ver UInt64 COMMENT 'what was folded in: messages checked and failures taken back'
)
ENGINE = ReplacingMergeTree(ver)
PARTITION BY toYYYYMM(w)
ORDER BY (w, dataset, producer, rule, lane)
TTL w + INTERVAL 90 DAY DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Quality of data per minute, topic, producer and rule. Read with FINAL. Owner: data';

-- Minutes in which something began that is unlike the minutes before.
CREATE TABLE anomalies
(
    w DateTime('UTC') COMMENT 'minute of event time',
    dataset LowCardinality(String) COMMENT 'topic',
    producer LowCardinality(String) COMMENT 'ce_source',
    kind LowCardinality(String) COMMENT 'volume or mix',
    lane UInt16 COMMENT 'whose part of the partitions it was seen in',
    expected Float64 COMMENT 'events, or distance of the mix',
    observed Float64 COMMENT 'events, or distance of the mix',
    score Float64 COMMENT 'standard deviations; negative for fewer events',
    ver UInt64
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (w, dataset, producer, kind, lane)
TTL w + INTERVAL 90 DAY DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Anomalies of volume and mix. Read with FINAL. Owner: data';

-- Observed lineage: along which edges events came.
CREATE TABLE lineage_edges
(
    from_node LowCardinality(String) COMMENT 'source:, hop: or topic:',
    to_node LowCardinality(String) COMMENT 'hop: or topic:',
    lane UInt16 COMMENT 'the only writer of this row',
    declared Bool COMMENT 'by schemas/topics and schemas/quality.yaml',
    n UInt64 COMMENT 'events',
    first_at DateTime64(3, 'UTC') COMMENT 'event time',
    last_at DateTime64(3, 'UTC') COMMENT 'event time',
    ver UInt64 COMMENT 'events folded in'
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (from_node, to_node, lane)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Observed lineage. Read with FINAL. Owner: data';
