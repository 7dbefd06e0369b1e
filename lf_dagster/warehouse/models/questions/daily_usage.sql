-- One row per day (UTC) and environment that has traces: how much is used, what it costs, how much of it fails.
-- materialized: view
-- day: Day (UTC) of the traces' hours.
-- environment: Langfuse environment.
-- n_traces: Traces.
-- n_users: Distinct users.
-- n_sessions: Distinct sessions.
-- n_generations: Generations.
-- n_tool_calls: Tool calls.
-- n_failed_traces: Traces with an observation of level ERROR.
-- error_rate: n_failed_traces by n_traces, 0 to 1.
-- input_tokens [tokens]: Sum of the traces' input tokens; NULL beyond 2^63.
-- output_tokens [tokens]: Sum of the traces' output tokens; NULL beyond 2^63.
-- total_tokens [tokens]: Sum of the traces' tokens; NULL beyond 2^63.
-- total_cost [USD]: Sum of the traces' costs; NULL when none is known.
-- duration_p50_s [s]: Median duration of a trace.
-- duration_p95_s [s]: 95th percentile of it.
SELECT
    (partition_hour AT TIME ZONE 'UTC')::DATE AS day,
    environment,
    count(*) AS n_traces,
    count(DISTINCT user_id) AS n_users,
    count(DISTINCT session_id) AS n_sessions,
    TRY_CAST(sum(n_generations) AS BIGINT) AS n_generations,
    TRY_CAST(sum(n_tool_calls) AS BIGINT) AS n_tool_calls,
    count(*) FILTER (n_errors > 0) AS n_failed_traces,
    count(*) FILTER (n_errors > 0) / count(*) AS error_rate,
    TRY_CAST(sum(input_tokens) AS BIGINT) AS input_tokens,
    TRY_CAST(sum(output_tokens) AS BIGINT) AS output_tokens,
    TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
    sum(total_cost) AS total_cost,
    quantile_cont(duration_s, 0.5) AS duration_p50_s,
    quantile_cont(duration_s, 0.95) AS duration_p95_s
FROM traces
GROUP BY ALL
