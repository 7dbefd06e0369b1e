-- The ten users with most traces.
SELECT
    user_id,
    count(*) AS traces,
    count(DISTINCT session_id) AS sessions,
    sum(n_errors)::BIGINT AS errors,
    sum(total_cost)::DOUBLE AS cost,
    max(partition_hour) AS last_hour
FROM period_traces
WHERE user_id IS NOT NULL
GROUP BY user_id
ORDER BY traces DESC, user_id
LIMIT 10
