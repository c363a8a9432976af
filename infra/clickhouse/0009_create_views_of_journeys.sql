-- Distinct people by hour, in states that a repeat does not change.
CREATE TABLE uniq_1h
(
    w DateTime('UTC') COMMENT 'hour of event time',
    event_type LowCardinality(String),
    campaign LowCardinality(String),
    channel LowCardinality(String),
    arm LowCardinality(String),
    class LowCardinality(String),
    people AggregateFunction(uniqCombined64, String) COMMENT 'uniqCombined64Merge(people)',
    expires_at SimpleAggregateFunction(max, Date32) COMMENT 'that of its last fact'
)
ENGINE = AggregatingMergeTree
ORDER BY (w, event_type, campaign, channel, arm, class)
TTL expires_at DELETE
COMMENT 'Distinct people by hour, of events that name one. Owner: data';

CREATE MATERIALIZED VIEW uniq_1h_of_facts TO uniq_1h AS
SELECT
    toStartOfHour(event_time) AS w, event_type, campaign, channel, arm, class,
    uniqCombined64State(subject) AS people,
    max(expires_at) AS expires_at
FROM facts WHERE subject != ''
GROUP BY w, event_type, campaign, channel, arm, class;

-- Hours of the rollup for roles that may not see small groups: rollup_1h_of_groups(k=10). A cell
-- that is about nobody in particular is shown, one about fewer than k people is not.
CREATE VIEW rollup_1h_of_groups AS
SELECT cells.*, groups.people AS people
FROM
(
    SELECT toStartOfHour(rollup_1m_lanes.w) AS w, event_type, campaign, channel, arm, class,
        currency, sum(n) AS n, sum(amount_minor) AS amount_minor
    FROM rollup_1m_lanes FINAL
    GROUP BY w, event_type, campaign, channel, arm, class, currency
    HAVING sum(rollup_1m_lanes.n) > 0
) AS cells
LEFT JOIN
(
    SELECT w, event_type, campaign, channel, arm, class, uniqCombined64Merge(uniq_1h.people) AS people
    FROM uniq_1h GROUP BY w, event_type, campaign, channel, arm, class
) AS groups USING (w, event_type, campaign, channel, arm, class)
WHERE people = 0 OR people >= {k:UInt64};

-- How long journeys take from one step to another: by hour of their start, in the buckets of
-- rollup_1m, which can be added (sumForEach). Of each act the first time counts.
CREATE VIEW stage_latency_1h AS
SELECT
    w, campaign, channel, arm, from_act, to_act,
    sum(c) AS n,
    sumForEach(arrayMap(place -> if(place = bucket, c, 0), range(32))) AS latency_hist
FROM
(
    SELECT
        toStartOfHour(started_at) AS w, campaign, channel, arm,
        pair.1 AS from_act, pair.2 AS to_act,
        toUnixTimestamp64Milli(at[indexOf(acts, pair.2)])
            - toUnixTimestamp64Milli(at[indexOf(acts, pair.1)]) AS ms,
        if(ms <= 0, 0, least(31, bitCount(roundToExp2(toUInt64(greatest(ms, 1))) - 1) + 1)) AS bucket,
        count() AS c
    FROM journeys FINAL
    ARRAY JOIN
    [
        ('request.created', 'delivery.sent'),
        ('delivery.sent', 'delivery.delivered'),
        ('delivery.delivered', 'engagement.opened'),
        ('engagement.opened', 'engagement.clicked'),
        ('engagement.clicked', 'outcome.payment_received'),
        ('request.created', 'outcome.payment_received')
    ] AS pair
    WHERE has(acts, pair.1) AND has(acts, pair.2)
    GROUP BY w, campaign, channel, arm, from_act, to_act, ms, bucket
)
GROUP BY w, campaign, channel, arm, from_act, to_act;

-- The same with percentiles, each read off its bucket as if events lay evenly in it.
CREATE VIEW stage_latency AS
SELECT
    campaign, channel, arm, from_act, to_act,
    sum(stage_latency_1h.n) AS n,
    sumForEach(stage_latency_1h.latency_hist) AS latency_hist,
    arrayMap(q -> (
        arrayFirstIndex(c -> c >= q * n, arrayCumSum(latency_hist)) AS place,
        if(place = 1, 0, exp2(place - 2)) AS low,
        low + (if(place = 1, 0, exp2(place - 1)) - low)
            * (q * n - arrayCumSum(latency_hist)[place] + latency_hist[place])
            / latency_hist[place]
    ).3, [0.5, 0.95, 0.99]) AS percentiles_ms
FROM stage_latency_1h
GROUP BY campaign, channel, arm, from_act, to_act;
