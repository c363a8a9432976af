-- The books: how many messages of each run of offsets left by which door.
CREATE TABLE fates
(
    topic LowCardinality(String),
    part UInt32,
    run UInt64 COMMENT 'offset divided by 10000',
    door LowCardinality(String) COMMENT 'routed, quarantined, dropped or late',
    code LowCardinality(String) COMMENT 'empty for routed',
    source LowCardinality(String) COMMENT 'ce_source, where it could be read',
    lane UInt16 COMMENT 'the only writer of this row',
    n UInt64 COMMENT 'messages',
    ver UInt64 COMMENT 'messages counted in'
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (topic, part, run, door, code, source, lane)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Messages by door. Read with FINAL. Owner: operations';

-- Every message that did not leave by the routed door, without its body.
CREATE TABLE quarantine
(
    topic LowCardinality(String),
    part UInt32,
    off UInt64,
    recorded_at DateTime64(3, 'UTC') COMMENT 'timestamp of the Kafka record',
    door LowCardinality(String) COMMENT 'quarantined, dropped or late',
    code LowCardinality(String) COMMENT 'see docs/codes.md',
    pointer String COMMENT 'RFC 6901: into the ticket for T1xx, T2xx, T4xx to T6xx, into the body for T3xx',
    reason String COMMENT 'what was expected; never a value of the message',
    event_id String,
    source LowCardinality(String),
    event_type LowCardinality(String),
    purpose LowCardinality(String),
    class LowCardinality(String),
    ver UInt64
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (topic, part, off)
TTL toDateTime(recorded_at) + INTERVAL 30 DAY DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Refused messages, one row each. Read with FINAL. Owner: operations';
