-- How many ancestors each observation has, the synthetic row not counted: climbs from row to parent within 48 h of the
-- row's own hour. A row whose parent is unknown is a top (0); rows in a cycle have no depth.
WITH RECURSIVE known AS (
    SELECT trace_id, observation_id, parent_observation_id, is_synthetic, partition_hour FROM staged_observations
    UNION ALL
    SELECT trace_id, observation_id, parent_observation_id, is_synthetic, partition_hour FROM neighbour_observations
),
climb AS (
    SELECT trace_id, observation_id, partition_hour, parent_observation_id AS ancestor_id, 0::BIGINT AS depth
    FROM known
    WHERE parent_observation_id IS NOT NULL AND parent_observation_id <> 't-' || trace_id
    UNION
    SELECT c.trace_id, c.observation_id, c.partition_hour, k.parent_observation_id, c.depth + 1
    FROM climb AS c
    JOIN known AS k
        ON k.trace_id = c.trace_id
        AND k.observation_id = c.ancestor_id
        AND k.partition_hour BETWEEN c.partition_hour - INTERVAL 48 HOUR AND c.partition_hour + INTERVAL 48 HOUR
    WHERE c.depth < 100 AND NOT k.is_synthetic
)
SELECT trace_id, observation_id, partition_hour, CASE WHEN max(depth) < 100 THEN max(depth) END AS depth
FROM climb
GROUP BY trace_id, observation_id, partition_hour
