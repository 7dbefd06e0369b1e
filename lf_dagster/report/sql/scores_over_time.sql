-- Per step: mean and number of the four most frequent scores that are numbers or yes and no (1 and 0).
WITH wanted AS (
    SELECT name, data_type, row_number() OVER (ORDER BY count(*) DESC, name, data_type) AS rank
    FROM period_scores
    WHERE value IS NOT NULL
    GROUP BY name, data_type
    QUALIFY rank <= 4
)
SELECT w.rank, w.name, w.data_type, s.bucket, count(*) AS scores, avg(s.value) AS mean
FROM period_scores AS s
JOIN wanted AS w USING (name, data_type)
WHERE s.value IS NOT NULL
GROUP BY ALL
ORDER BY w.rank, s.bucket
