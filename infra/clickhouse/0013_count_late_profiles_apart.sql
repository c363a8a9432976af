-- A profile that comes when its minute may be closed has a row of its own, named after its record,
-- so that a repeat changes nothing and the sums over a cell's rows are the facts. Rows of before
-- are all of cells.
ALTER TABLE rollup_1m_lanes
    ADD COLUMN IF NOT EXISTS late UInt64 COMMENT '0 for the cell of the lane; else one event that came late, partition << 40 | offset of its record, plus 1' AFTER lane,
    MODIFY ORDER BY (w, event_type, campaign, channel, class, currency, lane, arm, late);
