-- Every accepted event, once: the sort key has immutable attributes only, so a row that is
-- written again after a restart collapses. Read with FINAL.
CREATE TABLE facts
(
    event_id String COMMENT 'ce_id',
    event_type LowCardinality(String) COMMENT 'ce_type',
    source LowCardinality(String) COMMENT 'ce_source: who says so',
    event_time DateTime64(3, 'UTC') COMMENT 'ce_time: when it happened',
    recorded_at DateTime64(3, 'UTC') COMMENT 'timestamp of the Kafka record',
    purpose LowCardinality(String) COMMENT 'ce_datapurpose',
    class LowCardinality(String) COMMENT 'ce_dataclassification, sorted',
    sensitivity UInt8 COMMENT 'greatest rank of the classes',
    category Array(LowCardinality(String)) COMMENT 'ce_datacategory',
    subject String COMMENT 'ce_subject: keyed pseudonym of the person',
    journey String COMMENT 'ce_correlationid',
    notification String COMMENT 'notification_id of the body',
    cause String COMMENT 'ce_causationid',
    trace_id String COMMENT 'W3C trace id',
    hops Array(Tuple(stage String, node String, ms UInt64, act String)) COMMENT 'ce_datahops as it came in',
    campaign LowCardinality(String),
    tenant LowCardinality(String),
    channel LowCardinality(String),
    arm LowCardinality(String),
    reason LowCardinality(String),
    amount_minor Int64 COMMENT 'in minor units of the currency',
    currency LowCardinality(String) COMMENT 'ISO 4217',
    zone LowCardinality(String) COMMENT 'IANA time zone of the person, from the profile',
    local_hour UInt8 COMMENT 'hour of the week on the person''s clock, Monday 00:00 first; 255 unknown',
    warnings Array(LowCardinality(String)) COMMENT 'codes that stopped nothing',
    topic LowCardinality(String),
    part UInt32,
    off UInt64,
    expires_at Date32 COMMENT 'set by the policy when the row was written',
    ver UInt64 COMMENT 'offset of the record',
    INDEX by_subject subject TYPE bloom_filter GRANULARITY 4,
    INDEX by_journey journey TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree(ver)
PARTITION BY toYYYYMM(event_time)
ORDER BY (event_type, toStartOfHour(event_time), source, event_id)
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Accepted events, one row each. Owner: data';
