-- Why each message is sent when it is, with the odds: what off-policy evaluation reads. The sort
-- key has attributes of the request only, which a repeat cannot change. Read with FINAL.
CREATE TABLE decisions
(
    decision_id String COMMENT 'ce_id of the decision, made from that of the request',
    event_id String COMMENT 'ce_id of the request',
    requested_at DateTime64(3, 'UTC') COMMENT 'ce_time of the request',
    journey String,
    subject String COMMENT 'keyed pseudonym of the person',
    campaign LowCardinality(String),
    channel LowCardinality(String),
    arm LowCardinality(String) COMMENT 'optimised, holdout or immediate',
    decided_at DateTime64(3, 'UTC'),
    chosen_at DateTime64(3, 'UTC') COMMENT 'when to send',
    chosen_slot UInt8 COMMENT 'hour of the week on the person''s clock, Monday 00:00 first',
    propensity Float64 COMMENT 'odds at which the slot was drawn; 1 where nothing was drawn',
    allowed FixedString(21) COMMENT 'slots that were allowed, one bit each: bitTest(reinterpretAsUInt256(allowed), slot)',
    alternatives Array(Tuple(slot UInt8, propensity Float64)) COMMENT 'likeliest first',
    score Float64 COMMENT 'expected response at the chosen slot',
    reason LowCardinality(String) COMMENT 'why this time, or why no better one',
    model LowCardinality(String),
    model_version LowCardinality(String),
    policy UInt32 COMMENT 'version of the policy file',
    expires_at Date32 COMMENT 'set by the policy when the row was written',
    ver UInt64 COMMENT 'offset of the request''s record',
    INDEX by_subject subject TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree(ver)
PARTITION BY toYYYYMM(requested_at)
ORDER BY (campaign, toStartOfHour(requested_at), decision_id)
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Delivery-time decisions, one row each. Read with FINAL. Owner: growth';

-- What came of a decision: first the negative of the timer, if no response came in time; a
-- response replaces it, however late.
CREATE TABLE decision_outcomes
(
    decision_id String,
    requested_at DateTime64(3, 'UTC') COMMENT 'ce_time of the request',
    campaign LowCardinality(String),
    subject String COMMENT 'keyed pseudonym of the person',
    responded UInt8 COMMENT '1: within the window of the campaign, or later as a correction',
    responded_at DateTime64(3, 'UTC') COMMENT '1970 where there was no response',
    corrected UInt8 COMMENT '1: a response that came after the negative',
    expires_at Date32 COMMENT 'that of the decision',
    ver UInt64 COMMENT '1 for the negative of the timer, 2 for a response',
    INDEX by_subject subject TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree(ver)
PARTITION BY toYYYYMM(requested_at)
ORDER BY (campaign, toStartOfHour(requested_at), decision_id)
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Outcomes of decisions, one row each. Read with FINAL. Owner: growth';

-- Optimised against holdout: the plan and the verdict so far.
CREATE TABLE experiments
(
    experiment LowCardinality(String),
    started_at DateTime64(3, 'UTC'),
    holdout_share Float64 COMMENT 'share of subjects whose time is not optimised',
    interest Float64 COMMENT 'smallest lift that matters',
    alpha Float64 COMMENT 'chance of one wrong verdict, ever',
    state LowCardinality(String) COMMENT 'collecting, effect_found or null_accepted: see docs/evidence.md',
    decided_at DateTime64(3, 'UTC') COMMENT 'when the state was reached; 1970 if never',
    ver UInt64 COMMENT 'milliseconds of started_at or decided_at, whichever is later'
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (experiment, started_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Experiments, one row each. Read with FINAL. Owner: growth';

-- What was known at a time; counts are of everything until then.
CREATE TABLE experiment_results
(
    experiment LowCardinality(String),
    at DateTime64(3, 'UTC') COMMENT 'time of the data, not of the clock',
    state LowCardinality(String) COMMENT 'collecting, effect_found or null_accepted',
    lift Float64 COMMENT 'optimised minus holdout, of the mean per send',
    low Nullable(Float64) COMMENT 'lower end of the confidence sequence; none before there is enough',
    high Nullable(Float64) COMMENT 'upper end',
    detectable Nullable(Float64) COMMENT 'lift that this much data finds with 80 % chance',
    sends_needed Nullable(UInt64) COMMENT 'further sends until a verdict, as things look',
    log_e Float64 COMMENT 'natural log of the evidence against no lift',
    optimised_subjects UInt64,
    optimised_sends UInt64,
    optimised_answers UInt64,
    optimised_value Float64,
    holdout_subjects UInt64,
    holdout_sends UInt64,
    holdout_answers UInt64,
    holdout_value Float64,
    left_out UInt64 COMMENT 'sends to subjects that came when there was no room for more',
    split_log_e Float64 COMMENT 'natural log of the evidence that arms are not split as planned',
    split_wrong Bool COMMENT 'no verdict while this is so',
    cluster_looks UInt32,
    cluster_log_e Nullable(Float64) COMMENT 'natural log of the evidence that people differ in their hours',
    clusters_exist Bool,
    slots_differ Bool,
    slots Array(Tuple(bin UInt8, lift Float64, error Float64, log_e Float64, found Bool)) COMMENT 'each part of the week against all others',
    ver UInt64 COMMENT 'sends folded in'
)
ENGINE = ReplacingMergeTree(ver)
PARTITION BY toYYYYMM(at)
ORDER BY (experiment, at)
TTL toDateTime(at) + INTERVAL 2 YEAR DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Verdicts over time. Read with FINAL. Owner: growth';
