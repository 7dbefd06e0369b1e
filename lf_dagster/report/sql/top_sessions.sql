-- The ten sessions with most traces.
SELECT
    session_id,
    min(user_id) AS user_id,
    count(DISTINCT user_id) AS users,
    count(*) AS traces,
    sum(n_errors)::BIGINT AS errors,
    sum(total_cost)::DOUBLE AS cost,
    max(partition_hour) AS last_hour
FROM period_traces
WHERE session_id IS NOT NULL
GROUP BY session_id
ORDER BY traces DESC, session_id
LIMIT 10
