-- One row per day (UTC), environment and score: how many there are and how they come out.
-- materialized: view
-- day: Day (UTC) of the scores.
-- environment: Langfuse environment.
-- name: Name of the score.
-- data_type: NUMERIC, BOOLEAN, CATEGORICAL, TEXT, CORRECTION or what comes next.
-- source: API, EVAL, ANNOTATION.
-- n_scores: Scores.
-- n_traces: Distinct traces that they are about.
-- n_users: Distinct users of those traces.
-- mean: Mean of the numbers; share of true for BOOLEAN. NULL without numbers.
-- minimum: Smallest number.
-- maximum: Largest number.
-- n_by_category: Scores by category, for CATEGORICAL and BOOLEAN.
SELECT
    (partition_hour AT TIME ZONE 'UTC')::DATE AS day,
    environment,
    name,
    data_type,
    source,
    count(*) AS n_scores,
    count(DISTINCT trace_id) AS n_traces,
    count(DISTINCT trace_user_id) AS n_users,
    avg(value_num) FILTER (data_type <> 'CATEGORICAL') AS mean,
    min(value_num) FILTER (data_type <> 'CATEGORICAL') AS minimum,
    max(value_num) FILTER (data_type <> 'CATEGORICAL') AS maximum,
    histogram(value_str) FILTER (data_type IN ('CATEGORICAL', 'BOOLEAN')) AS n_by_category
FROM scores
GROUP BY ALL
