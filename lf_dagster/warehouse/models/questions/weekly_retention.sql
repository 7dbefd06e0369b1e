-- One row per cohort and week: of the users whose first trace lies in a week (Monday to Sunday, UTC), how many had
-- traces so many weeks later. Weeks in which none of them had any have no row.
-- materialized: view
-- cohort_week: Monday of the week of the users' first traces.
-- weeks_later: Weeks since then; 0 is the week itself.
-- n_users: Users of the cohort with traces in that week.
-- cohort_users: Users of the cohort.
-- retention: n_users by cohort_users, 0 to 1.
WITH active AS (
    SELECT DISTINCT user_id, date_trunc('week', partition_hour AT TIME ZONE 'UTC')::DATE AS week
    FROM traces
    WHERE user_id IS NOT NULL
),
cohorts AS (
    SELECT user_id, week, min(week) OVER (PARTITION BY user_id) AS cohort_week
    FROM active
),
sizes AS (
    SELECT cohort_week, count(DISTINCT user_id) AS cohort_users
    FROM cohorts
    GROUP BY cohort_week
)
SELECT
    c.cohort_week,
    date_diff('day', c.cohort_week, c.week) // 7 AS weeks_later,
    count(*) AS n_users,
    any_value(s.cohort_users) AS cohort_users,
    count(*) / any_value(s.cohort_users) AS retention
FROM cohorts AS c
JOIN sizes AS s USING (cohort_week)
GROUP BY c.cohort_week, c.week
