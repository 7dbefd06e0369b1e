-- Users by the step in which they were first seen at all, and how many of them came back how many steps later. At most
-- the newest fourteen cohorts. The step is a day or an ISO week (from Monday).
WITH active AS (
    SELECT DISTINCT user_id, date_trunc('{cohort}', partition_hour)::DATE AS step
    FROM every_trace
    WHERE user_id IS NOT NULL
),
born AS (
    SELECT user_id, min(step) AS cohort
    FROM active
    GROUP BY user_id
    HAVING min(step) >= date_trunc('{cohort}', {first})::DATE
),
sizes AS (SELECT cohort, count(*) AS size FROM born GROUP BY cohort ORDER BY cohort DESC LIMIT 14)
SELECT
    b.cohort,
    any_value(s.size) AS size,
    date_diff('{cohort}', b.cohort, a.step) AS later,
    count(*) AS users
FROM born AS b
JOIN active AS a USING (user_id)
JOIN sizes AS s ON s.cohort = b.cohort
GROUP BY b.cohort, later
ORDER BY b.cohort, later
