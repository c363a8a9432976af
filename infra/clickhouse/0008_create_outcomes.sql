-- What came of notifications. A reaction to a message has one row (direct); a result has one for
-- each share of it under each model, so always filter by model. Read with FINAL.
CREATE TABLE outcomes
(
    outcome_id String COMMENT 'of the event that it is',
    model LowCardinality(String) COMMENT 'direct, last_touch, first_touch or linear',
    slot UInt16 COMMENT 'number of the share',
    kind LowCardinality(String) COMMENT 'opened, clicked, payment_received …',
    at DateTime64(3, 'UTC'),
    journey String COMMENT 'where it happened',
    notification String,
    subject String COMMENT 'keyed pseudonym of the person',
    campaign LowCardinality(String) COMMENT 'of that journey',
    channel LowCardinality(String),
    arm LowCardinality(String),
    purpose LowCardinality(String),
    class LowCardinality(String),
    sensitivity UInt8,
    amount_minor Int64 COMMENT 'of the whole outcome, in minor units of the currency: multiply by weight',
    currency LowCardinality(String),
    to_journey String COMMENT 'what it is put down to; empty for nothing',
    to_campaign LowCardinality(String),
    to_notification String,
    weight Float64 COMMENT 'share; those of one outcome and model add up to 1',
    touches UInt16 COMMENT 'touches in the window',
    window_s UInt32 COMMENT '0 for direct',
    expires_at Date32 COMMENT 'set by the policy',
    ver UInt64 COMMENT 'touches known when the row was written, and one',
    INDEX by_subject subject TYPE bloom_filter GRANULARITY 4,
    INDEX by_journey journey TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (outcome_id, model, slot)
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Outcomes and what they are put down to. Owner: data';
