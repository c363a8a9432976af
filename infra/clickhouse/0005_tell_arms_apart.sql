-- The arm of an experiment is a dimension of the rollups. Rows of before have none: once their
-- minutes are closed, `airside reconcile --repair` tells them apart by the facts.
ALTER TABLE rollup_1m_lanes
    ADD COLUMN IF NOT EXISTS arm LowCardinality(String) COMMENT 'arm of the experiment, empty for none' AFTER channel,
    MODIFY ORDER BY (w, event_type, campaign, channel, class, currency, lane, arm);

CREATE OR REPLACE VIEW rollup_1m AS
SELECT
    w, event_type, campaign, channel, arm, class, currency,
    sum(n) AS n,
    sum(amount_minor) AS amount_minor,
    sumForEach(latency_hist) AS latency_hist,
    max(recorded_at) AS recorded_at
FROM rollup_1m_lanes FINAL
GROUP BY w, event_type, campaign, channel, arm, class, currency
HAVING sum(rollup_1m_lanes.n) > 0;

-- Hours and days are views of the minutes, so that they cannot differ from them.
CREATE OR REPLACE VIEW rollup_1h AS
SELECT
    toStartOfHour(rollup_1m_lanes.w) AS w, event_type, campaign, channel, arm, class, currency,
    sum(n) AS n,
    sum(amount_minor) AS amount_minor,
    sumForEach(latency_hist) AS latency_hist,
    max(recorded_at) AS recorded_at
FROM rollup_1m_lanes FINAL
GROUP BY w, event_type, campaign, channel, arm, class, currency
HAVING sum(rollup_1m_lanes.n) > 0;

CREATE OR REPLACE VIEW rollup_1d AS
SELECT
    toStartOfDay(rollup_1m_lanes.w) AS w, event_type, campaign, channel, arm, class, currency,
    sum(n) AS n,
    sum(amount_minor) AS amount_minor,
    sumForEach(latency_hist) AS latency_hist,
    max(recorded_at) AS recorded_at
FROM rollup_1m_lanes FINAL
GROUP BY w, event_type, campaign, channel, arm, class, currency
HAVING sum(rollup_1m_lanes.n) > 0;
