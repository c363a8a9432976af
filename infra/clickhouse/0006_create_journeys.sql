-- One row for each journey: an absolute value that is written again with each event, so a repeat
-- changes nothing and the row with the most events wins. Read with FINAL.
CREATE TABLE journeys
(
    journey String COMMENT 'ce_correlationid',
    subject String COMMENT 'ce_subject: keyed pseudonym of the person',
    notification String,
    campaign LowCardinality(String),
    tenant LowCardinality(String),
    channel LowCardinality(String) COMMENT 'the last one',
    arm LowCardinality(String) COMMENT 'arm of the experiment; holdout for those held out',
    purpose LowCardinality(String) COMMENT 'of the first event',
    class LowCardinality(String) COMMENT 'all classes of its events, sorted',
    sensitivity UInt8 COMMENT 'greatest rank of the classes',
    stage LowCardinality(String) COMMENT 'creation, orchestration, delivery or analysis: how far it came',
    rank UInt8 COMMENT 'how far it came, never less with a later row',
    state LowCardinality(String) COMMENT 'open, completed, suppressed, failed or timed_out',
    started_at DateTime64(3, 'UTC') COMMENT 'time of the first event',
    last_at DateTime64(3, 'UTC') COMMENT 'time of the last event',
    n UInt32 COMMENT 'events',
    acts Array(LowCardinality(String)) COMMENT 'what happened, by time; the first 64 events',
    at Array(DateTime64(3, 'UTC')) COMMENT 'when, as long as acts',
    hops UInt16 COMMENT 'most hops of one event',
    propensity Float64 COMMENT 'odds at which the arm was drawn; 0 for none',
    amount_minor Int64 COMMENT 'paid, in minor units of the currency',
    refunded_minor Int64 COMMENT 'paid back, in minor units of the currency',
    currency LowCardinality(String) COMMENT 'ISO 4217: that of the first payment',
    opened_human Bool,
    opened_machine Bool,
    clicked Bool COMMENT 'by a person',
    converted Bool COMMENT 'registered, paid, or told to have converted',
    expires_at Date32 COMMENT 'when the first of its events expires by the policy',
    ver UInt64 COMMENT 'twice the events folded in, one more once it timed out',
    INDEX by_subject subject TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY journey
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Journeys, one row each. Owner: data';
