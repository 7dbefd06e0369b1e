-- One row per user and day (UTC) on which the user had traces: who is active, how much each uses and costs.
-- materialized: view
-- day: Day (UTC) of the traces' hours.
-- user_id: User id as the application sent it.
-- first_day: The user's first day of all that the warehouse holds.
-- n_traces: Traces.
-- n_sessions: Distinct sessions.
-- n_failed_traces: Traces with an observation of level ERROR.
-- total_tokens [tokens]: Sum of the traces' tokens; NULL beyond 2^63.
-- total_cost [USD]: Sum of the traces' costs; NULL when none is known.
SELECT
    (partition_hour AT TIME ZONE 'UTC')::DATE AS day,
    user_id,
    min(min(partition_hour AT TIME ZONE 'UTC')::DATE) OVER (PARTITION BY user_id) AS first_day,
    count(*) AS n_traces,
    count(DISTINCT session_id) AS n_sessions,
    count(*) FILTER (n_errors > 0) AS n_failed_traces,
    TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
    sum(total_cost) AS total_cost
FROM traces
WHERE user_id IS NOT NULL
GROUP BY (partition_hour AT TIME ZONE 'UTC')::DATE, user_id
