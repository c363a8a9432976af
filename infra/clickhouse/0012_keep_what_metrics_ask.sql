-- What metrics ask of every journey, worked out once when its row is written: to look into the
-- lists of acts and times of each one cost more than all the rest of a question.
ALTER TABLE journeys
    ADD COLUMN IF NOT EXISTS sent_count UInt16 MATERIALIZED countEqual(acts, 'delivery.sent') COMMENT 'messages that providers took',
    ADD COLUMN IF NOT EXISTS delivered Bool MATERIALIZED has(acts, 'delivery.delivered'),
    ADD COLUMN IF NOT EXISTS bounced Bool MATERIALIZED has(acts, 'delivery.bounced'),
    ADD COLUMN IF NOT EXISTS suppressed Bool MATERIALIZED has(acts, 'orchestration.suppressed'),
    ADD COLUMN IF NOT EXISTS unsubscribed Bool MATERIALIZED has(acts, 'engagement.unsubscribed'),
    ADD COLUMN IF NOT EXISTS complained Bool MATERIALIZED has(acts, 'engagement.complained'),
    ADD COLUMN IF NOT EXISTS engaged_ms Nullable(Int64) MATERIALIZED if(
        has(acts, 'delivery.delivered') AND has(acts, 'engagement.opened'),
        toUnixTimestamp64Milli(at[indexOf(acts, 'engagement.opened')])
            - toUnixTimestamp64Milli(at[indexOf(acts, 'delivery.delivered')]),
        NULL) COMMENT 'from the first delivery to the first open by a person',
    ADD COLUMN IF NOT EXISTS opened_after_ms Nullable(Int64) MATERIALIZED if(
        has(acts, 'delivery.delivered') AND has(acts, 'engagement.opened'),
        arrayFirstOrNull((ms, act) -> act = 'engagement.opened' AND ms >= 0, arrayMap(one ->
            toUnixTimestamp64Milli(one) - toUnixTimestamp64Milli(at[indexOf(acts, 'delivery.delivered')]), at), acts),
        NULL) COMMENT 'from the first delivery to the next open by a person',
    ADD COLUMN IF NOT EXISTS paid_after_ms Nullable(Int64) MATERIALIZED if(
        has(acts, 'delivery.delivered') AND has(acts, 'outcome.payment_received'),
        arrayFirstOrNull((ms, act) -> act = 'outcome.payment_received' AND ms >= 0, arrayMap(one ->
            toUnixTimestamp64Milli(one) - toUnixTimestamp64Milli(at[indexOf(acts, 'delivery.delivered')]), at), acts),
        NULL) COMMENT 'from the first delivery to the next payment';

-- Rows of before have them at once, worked out at each question until this has been through.
ALTER TABLE journeys
    MATERIALIZE COLUMN sent_count, MATERIALIZE COLUMN delivered, MATERIALIZE COLUMN bounced,
    MATERIALIZE COLUMN suppressed, MATERIALIZE COLUMN unsubscribed, MATERIALIZE COLUMN complained,
    MATERIALIZE COLUMN engaged_ms, MATERIALIZE COLUMN opened_after_ms, MATERIALIZE COLUMN paid_after_ms;
