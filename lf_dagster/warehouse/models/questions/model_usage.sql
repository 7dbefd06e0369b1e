-- One row per day (UTC), environment and model: calls, tokens, cost, speed and failures of its generations. Percentiles
-- do not add up; for other groups compute them over `generations`.
-- materialized: view
-- day: Day (UTC) in which the generations started.
-- environment: Langfuse environment.
-- model: Model name as sent; NULL where the sender named none.
-- n_calls: Generations.
-- n_errors: Generations of level ERROR.
-- error_rate: n_errors by n_calls, 0 to 1.
-- input_tokens [tokens]: Input tokens, cached ones too; without what is counted in characters; NULL beyond 2^63.
-- output_tokens [tokens]: Output tokens; as input_tokens; NULL beyond 2^63.
-- cache_read_tokens [tokens]: Tokens read from a prompt cache; NULL beyond 2^63.
-- cache_write_tokens [tokens]: Tokens written to a prompt cache; NULL beyond 2^63.
-- reasoning_tokens [tokens]: Reasoning tokens; NULL beyond 2^63.
-- total_tokens [tokens]: Tokens; as input_tokens; NULL beyond 2^63.
-- total_cost [USD]: Cost; NULL when none is known.
-- n_without_cost: Generations whose cost Langfuse does not know, which total_cost lacks.
-- latency_p50_s [s]: Median latency.
-- latency_p95_s [s]: 95th percentile of the latency.
-- ttft_p50_s [s]: Median time to first token, of streamed answers.
-- ttft_p95_s [s]: 95th percentile of it.
-- tokens_per_s [tokens/s]: Median of output tokens per second.
SELECT
    (g.partition_hour AT TIME ZONE 'UTC')::DATE AS day,
    o.environment,
    g.model,
    count(*) AS n_calls,
    count(*) FILTER (o.level = 'ERROR') AS n_errors,
    count(*) FILTER (o.level = 'ERROR') / count(*) AS error_rate,
    TRY_CAST(sum(g.input_tokens) FILTER (g.usage_unit = 'tokens') AS BIGINT) AS input_tokens,
    TRY_CAST(sum(g.output_tokens) FILTER (g.usage_unit = 'tokens') AS BIGINT) AS output_tokens,
    TRY_CAST(sum(g.cache_read_tokens) AS BIGINT) AS cache_read_tokens,
    TRY_CAST(sum(g.cache_write_tokens) AS BIGINT) AS cache_write_tokens,
    TRY_CAST(sum(g.reasoning_tokens) AS BIGINT) AS reasoning_tokens,
    TRY_CAST(sum(g.total_tokens) FILTER (g.usage_unit = 'tokens') AS BIGINT) AS total_tokens,
    sum(g.cost_total) AS total_cost,
    count(*) FILTER (g.cost_total IS NULL) AS n_without_cost,
    quantile_cont(g.latency_s, 0.5) AS latency_p50_s,
    quantile_cont(g.latency_s, 0.95) AS latency_p95_s,
    quantile_cont(g.ttft_s, 0.5) AS ttft_p50_s,
    quantile_cont(g.ttft_s, 0.95) AS ttft_p95_s,
    quantile_cont(g.tokens_per_s, 0.5) AS tokens_per_s
FROM generations AS g
JOIN observations AS o USING (partition_hour, trace_id, observation_id)
GROUP BY ALL
