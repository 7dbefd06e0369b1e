-- Cost per step of the five most expensive models and of all others together (`rank` 6, no model).
WITH ranked AS (
    SELECT model, row_number() OVER (ORDER BY sum(total_cost) DESC, model NULLS LAST) AS rank
    FROM period_observations
    WHERE total_cost > 0
    GROUP BY model
),
grouped AS (
    SELECT
        o.bucket,
        least(r.rank, 6) AS rank,
        CASE WHEN r.rank <= 5 THEN o.model END AS model,
        o.total_cost
    FROM period_observations AS o
    JOIN ranked AS r ON r.model IS NOT DISTINCT FROM o.model
    WHERE o.total_cost > 0
)
SELECT bucket, rank, model, sum(total_cost)::DOUBLE AS cost
FROM grouped
GROUP BY ALL
ORDER BY rank, bucket
