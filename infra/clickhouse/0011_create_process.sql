-- Online exceptions: one row for the first time that a journey broke a rule. Read with FINAL.
CREATE TABLE process_exceptions
(
    journey String COMMENT 'ce_correlationid',
    rule String COMMENT 'forbidden:a>b, missing:a or overdue:a',
    at DateTime64(3, 'UTC') COMMENT 'event time: of the act, the end or the deadline',
    kind LowCardinality(String) COMMENT 'forbidden, missing or overdue',
    process LowCardinality(String) COMMENT 'name of the declared process',
    act LowCardinality(String) COMMENT 'the step that it is about',
    previous LowCardinality(String) COMMENT 'the step before it; empty for none',
    allowed_s UInt32 COMMENT 'the deadline; 0 for none',
    notification String,
    subject String COMMENT 'keyed pseudonym of the person',
    campaign LowCardinality(String),
    tenant LowCardinality(String),
    channel LowCardinality(String) COMMENT 'the last one then',
    arm LowCardinality(String),
    purpose LowCardinality(String),
    class LowCardinality(String) COMMENT 'all classes of its events, sorted',
    sensitivity UInt8,
    expires_at Date32 COMMENT 'set by the policy',
    ver UInt64 COMMENT 'events of the journey known then',
    INDEX by_subject subject TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (journey, rule, at)
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Journeys that left the process, as known then. Owner: data';

-- The directly-follows graph by hour of the journey's start; nothing is stored for it.
CREATE VIEW process_dfg AS
SELECT
    toStartOfHour(started_at) AS hour,
    campaign,
    toString(step.1) AS source,
    toString(step.2) AS target,
    count() AS n,
    uniqExact(journey) AS journeys,
    sum(step.3) AS total_ms,
    quantilesTDigest(0.5, 0.95)(step.3) AS p50_p95_ms
FROM journeys FINAL
ARRAY JOIN arrayMap(
    (a, b, from_at, to_at) -> (a, b, toUnixTimestamp64Milli(to_at) - toUnixTimestamp64Milli(from_at)),
    arrayPopBack(acts), arrayPopFront(acts), arrayPopBack(at), arrayPopFront(at)) AS step
GROUP BY hour, campaign, source, target;
