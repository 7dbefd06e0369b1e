-- The ten models with most generations: latency, time to first token (s), output tokens per second, errors.
SELECT
    model,
    count(*) AS generations,
    quantile_cont(latency_s, 0.5) AS latency_p50,
    quantile_cont(latency_s, 0.9) AS latency_p90,
    quantile_cont(latency_s, 0.99) AS latency_p99,
    quantile_cont(ttft_s, 0.5) AS ttft_p50,
    quantile_cont(ttft_s, 0.9) AS ttft_p90,
    quantile_cont(ttft_s, 0.99) AS ttft_p99,
    quantile_cont(tokens_per_s, 0.5) AS tokens_per_s_p50,
    count(*) FILTER (level = 'ERROR') AS errors
FROM period_generations
GROUP BY model
ORDER BY generations DESC, model
LIMIT 10
