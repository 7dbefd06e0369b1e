-- One row per day (UTC), environment and tool: calls, failures and speed.
-- materialized: view
-- day: Day (UTC) in which the calls started.
-- environment: Langfuse environment.
-- tool: Name of the tool.
-- n_calls: Observations of type TOOL.
-- n_traces: Distinct traces that they belong to.
-- n_errors: Calls of level ERROR.
-- error_rate: n_errors by n_calls, 0 to 1.
-- latency_p50_s [s]: Median latency.
-- latency_p95_s [s]: 95th percentile of the latency.
SELECT
    (partition_hour AT TIME ZONE 'UTC')::DATE AS day,
    environment,
    name AS tool,
    count(*) AS n_calls,
    count(DISTINCT trace_id) AS n_traces,
    count(*) FILTER (level = 'ERROR') AS n_errors,
    count(*) FILTER (level = 'ERROR') / count(*) AS error_rate,
    quantile_cont(latency_s, 0.5) AS latency_p50_s,
    quantile_cont(latency_s, 0.95) AS latency_p95_s
FROM observations
WHERE type = 'TOOL'
GROUP BY ALL
