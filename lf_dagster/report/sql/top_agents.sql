-- The ten agents with most traces: the agent that a trace is of.
SELECT
    agent_name,
    count(*) AS traces,
    count(DISTINCT user_id) AS users,
    count(*) FILTER (n_errors > 0) AS failed,
    quantile_cont(CASE WHEN duration_s >= 0 THEN duration_s END, 0.5) AS duration_p50,
    sum(total_cost)::DOUBLE AS cost
FROM period_traces
WHERE agent_name IS NOT NULL
GROUP BY agent_name
ORDER BY traces DESC, agent_name
LIMIT 10
