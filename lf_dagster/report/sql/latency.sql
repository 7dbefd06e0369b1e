-- Per step: latency and time to first token of generations, in seconds; NULL in steps without any.
WITH measured AS (
    SELECT
        bucket,
        count(*) AS generations,
        quantile_cont(latency_s, 0.5) AS latency_p50,
        quantile_cont(latency_s, 0.9) AS latency_p90,
        quantile_cont(latency_s, 0.99) AS latency_p99,
        quantile_cont(ttft_s, 0.5) AS ttft_p50,
        quantile_cont(ttft_s, 0.9) AS ttft_p90,
        quantile_cont(ttft_s, 0.99) AS ttft_p99,
        quantile_cont(tokens_per_s, 0.5) AS tokens_per_s_p50
    FROM period_generations
    GROUP BY bucket
)
SELECT
    bucket,
    coalesce(generations, 0) AS generations,
    latency_p50,
    latency_p90,
    latency_p99,
    ttft_p50,
    ttft_p90,
    ttft_p99,
    tokens_per_s_p50
FROM buckets
LEFT JOIN measured USING (bucket)
ORDER BY bucket
