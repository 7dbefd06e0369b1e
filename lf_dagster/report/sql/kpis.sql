-- The figures at the top: one row for this period (`current`) and one for the period before.
WITH periods AS (SELECT unnest([true, false]) AS current),
traces AS (
    SELECT
        current,
        count(*) AS traces,
        count(DISTINCT user_id) AS users,
        count(DISTINCT session_id) AS sessions,
        count(*) FILTER (user_id IS NULL) AS traces_without_user
    FROM both_traces
    GROUP BY current
),
observations AS (
    SELECT
        current,
        count(*) AS observations,
        count(*) FILTER (level = 'ERROR') AS errors,
        sum(total_cost)::DOUBLE AS cost
    FROM both_observations
    GROUP BY current
),
generations AS (
    SELECT
        current,
        count(*) AS generations,
        sum(coalesce(input_tokens, 0)::DOUBLE + coalesce(output_tokens, 0)) AS tokens,
        quantile_cont(latency_s, 0.5) AS latency_p50,
        quantile_cont(latency_s, 0.9) AS latency_p90,
        quantile_cont(ttft_s, 0.5) AS ttft_p50,
        quantile_cont(ttft_s, 0.9) AS ttft_p90
    FROM both_generations
    GROUP BY current
),
scores AS (
    SELECT current, count(*) AS scores, count(DISTINCT (name, data_type)) AS score_names
    FROM both_scores
    GROUP BY current
)
SELECT *
FROM periods
LEFT JOIN traces USING (current)
LEFT JOIN observations USING (current)
LEFT JOIN generations USING (current)
LEFT JOIN scores USING (current)
ORDER BY current DESC
