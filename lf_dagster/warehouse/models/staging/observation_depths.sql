-- How many ancestors each observation has, the synthetic row not counted: climbs from row to parent within 48 h of the
-- row's own hour. A row whose parent is unknown is a top (0); rows in a cycle have no depth.
-- Ids are compared once, to find each row's parents; the climb itself is over numbers of rows and hours.
WITH RECURSIVE known AS (
    SELECT rowid AS n, trace_id, observation_id, parent_observation_id, partition_hour FROM staged_observations
    UNION ALL
    SELECT -1 - rowid AS n, trace_id, observation_id, parent_observation_id, partition_hour
    FROM neighbour_observations
),
children AS (
    SELECT n, trace_id, observation_id, parent_observation_id, partition_hour,
        epoch_us(partition_hour) // 3600000000 AS hour
    FROM known
    WHERE parent_observation_id IS NOT NULL AND parent_observation_id <> 't-' || trace_id
),
steps AS MATERIALIZED (
    SELECT c.n, c.hour, p.n AS parent, epoch_us(p.partition_hour) // 3600000000 AS parent_hour
    FROM children AS c
    JOIN known AS p ON p.trace_id = c.trace_id AND p.observation_id = c.parent_observation_id
),
climb AS (
    SELECT n, hour, parent AS ancestor, 1::BIGINT AS depth
    FROM steps
    WHERE parent_hour BETWEEN hour - 48 AND hour + 48
    UNION
    SELECT c.n, c.hour, s.parent, c.depth + 1
    FROM climb AS c
    JOIN steps AS s ON s.n = c.ancestor AND s.parent_hour BETWEEN c.hour - 48 AND c.hour + 48
    WHERE c.depth < 100
),
deepest AS (
    SELECT n, max(depth) AS depth FROM climb GROUP BY n
)
SELECT
    c.trace_id,
    c.observation_id,
    c.partition_hour,
    CASE WHEN coalesce(max(d.depth), 0) < 100 THEN coalesce(max(d.depth), 0) END AS depth
FROM children AS c
LEFT JOIN deepest AS d USING (n)
GROUP BY c.trace_id, c.observation_id, c.partition_hour
