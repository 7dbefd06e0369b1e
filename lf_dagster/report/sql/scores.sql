-- The ten score names with most scores, by data type: how many, the mean, or the most frequent category and its share.
WITH categories AS (
    SELECT name, category, count(*) AS given
    FROM period_scores
    WHERE category IS NOT NULL
    GROUP BY ALL
),
favourites AS (
    SELECT name, arg_max(category, (given, category)) AS category, max(given) / sum(given) AS share
    FROM categories
    GROUP BY name
)
SELECT
    s.name,
    s.data_type,
    count(*) AS scores,
    avg(s.value) AS mean,
    min(s.value) AS lowest,
    max(s.value) AS highest,
    any_value(f.category) FILTER (s.data_type = 'CATEGORICAL') AS category,
    any_value(f.share) FILTER (s.data_type = 'CATEGORICAL') AS share
FROM period_scores AS s
LEFT JOIN favourites AS f USING (name)
GROUP BY s.name, s.data_type
ORDER BY scores DESC, s.name, s.data_type
LIMIT 10
