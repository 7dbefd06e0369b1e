-- One row per generation that took longer than 95 of 100 of its model's, over all that the warehouse holds.
-- materialized: view
-- start_time: Start of the generation.
-- environment: Langfuse environment.
-- trace_id: Its trace.
-- observation_id: The observation.
-- name: Name of the generation.
-- model: Model name as sent; generations without one are compared with each other.
-- user_id: The row's user, else the trace's.
-- latency_s [s]: End minus start.
-- ttft_s [s]: Time to first token.
-- output_tokens [tokens]: Output tokens; NULL beyond 2^63.
-- model_p50_s [s]: Median latency of the model.
-- model_p95_s [s]: 95th percentile of it.
-- times_median: latency_s by model_p50_s.
WITH usual AS (
    SELECT model, quantile_cont(latency_s, 0.5) AS p50_s, quantile_cont(latency_s, 0.95) AS p95_s
    FROM generations
    WHERE latency_s IS NOT NULL
    GROUP BY model
)
SELECT
    o.start_time,
    o.environment,
    g.trace_id,
    g.observation_id,
    g.name,
    g.model,
    o.user_id,
    g.latency_s,
    g.ttft_s,
    g.output_tokens,
    u.p50_s AS model_p50_s,
    u.p95_s AS model_p95_s,
    CASE WHEN u.p50_s > 0 THEN g.latency_s / u.p50_s END AS times_median,
    g.partition_hour
FROM generations AS g
JOIN usual AS u ON u.model IS NOT DISTINCT FROM g.model
JOIN observations AS o
    ON o.partition_hour = g.partition_hour AND o.trace_id = g.trace_id AND o.observation_id = g.observation_id
WHERE g.latency_s > u.p95_s
