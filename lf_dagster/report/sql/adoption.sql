-- Per step (NULL where no hour is modelled): traces, active users and sessions, and users that were never seen before.
WITH first_seen AS (
    SELECT user_id, min(bucket) AS bucket
    FROM every_trace
    WHERE user_id IS NOT NULL
    GROUP BY user_id
    -- Its first week may begin before the period does.
    HAVING bool_and(current)
),
new_users AS (SELECT bucket, count(*) AS new_users FROM first_seen GROUP BY bucket),
active AS (
    SELECT
        bucket,
        count(*) AS traces,
        count(DISTINCT user_id) AS users,
        count(DISTINCT session_id) AS sessions
    FROM period_traces
    GROUP BY bucket
)
SELECT
    bucket,
    CASE WHEN modelled THEN coalesce(traces, 0) END AS traces,
    CASE WHEN modelled THEN coalesce(users, 0) END AS users,
    CASE WHEN modelled THEN coalesce(sessions, 0) END AS sessions,
    CASE WHEN modelled THEN coalesce(new_users, 0) END AS new_users
FROM buckets
LEFT JOIN active USING (bucket)
LEFT JOIN new_users USING (bucket)
ORDER BY bucket
