-- When people are active, in a few groups: what each lane of delivery times found last. A lane writes
-- all its clusters each time; those of fewer people than the policy's small_groups say nothing
-- (people is 0), so they replace what was told there before. No row is about one person.
CREATE TABLE rhythm_clusters
(
    lane UInt16 COMMENT 'whose people these are: each person is in one lane',
    cluster UInt8 COMMENT 'from 1, in the order of the hour of the peak; the lane''s own numbers',
    at DateTime64(3, 'UTC') COMMENT 'time of the data, not of the clock',
    learned UInt64 COMMENT 'rhythms that the lane''s centroids were learned from: their version',
    people UInt64 COMMENT 'people nearest to it with five activities or more; 0 for too few to be told of',
    sends UInt64 COMMENT 'what they were sent, as far as the model remembers and may learn from it; 0 where too few of them were sent anything',
    responses UInt64 COMMENT 'what they answered of it',
    hours Array(Float64) COMMENT 'share of activity by local hour, 24 from midnight; empty where people is 0',
    expires_at Date32 COMMENT 'the default retention of the policy after at',
    ver UInt64 COMMENT 'milliseconds of at'
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (lane, cluster)
TTL expires_at DELETE
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Clusters of people by rhythm, the newest of each lane. Read with FINAL. Owner: growth';

-- The same for roles that may not see small groups, with what one asks first: their share of the
-- lane's people, the hours of the peak (within a fifth of the highest), and the response rate.
-- rhythm_clusters_of_groups(k=10); shares are of the people shown.
CREATE VIEW rhythm_clusters_of_groups AS
SELECT
    lane, cluster, at, learned, people,
    people / sum(people) OVER (PARTITION BY lane) AS people_share,
    arrayFilter(hour -> hours[hour + 1] >= 0.8 * arrayMax(hours), range(24)) AS peak_hours,
    sends, responses, if(sends > 0, responses / sends, NULL) AS response_rate, hours
FROM rhythm_clusters FINAL
WHERE people >= greatest({k:UInt64}, 1);
