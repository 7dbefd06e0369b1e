-- Per step: observations, and how many of them have level ERROR.
WITH counted AS (
    SELECT bucket, count(*) AS observations, count(*) FILTER (level = 'ERROR') AS errors
    FROM period_observations
    GROUP BY bucket
)
SELECT
    bucket,
    coalesce(observations, 0) AS observations,
    coalesce(errors, 0) AS errors,
    errors / observations AS rate
FROM buckets
LEFT JOIN counted USING (bucket)
ORDER BY bucket
