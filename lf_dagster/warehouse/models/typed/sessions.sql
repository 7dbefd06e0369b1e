-- One row per session, derived from its traces: always as right as the traces.
-- materialized: view
-- session_id: Langfuse's session id.
-- first_seen: Start of its first trace.
-- last_seen: End of its last trace.
-- n_traces: Traces.
-- n_turns: Traces that are turns of a conversation: runs that only name it or keep memory are not counted.
-- n_users: Distinct users.
-- user_ids: The users, sorted.
-- duration_s [s]: last_seen minus first_seen.
-- total_cost [USD]: Sum of the traces' costs.
-- total_tokens [tokens]: Sum of the traces' tokens; NULL beyond 2^63.
-- n_errors: Observations of level ERROR.
-- source_apps: Writers, sorted.
-- environment: Environment of the first trace.
SELECT
    session_id,
    min(started_at) AS first_seen,
    max(ended_at) AS last_seen,
    count(*) AS n_traces,
    count(*) FILTER (coalesce(trace_name, '') NOT IN
        ('TitleRun', 'MemoryRun', 'generate_conversation_name', 'generate_name')) AS n_turns,
    count(DISTINCT user_id) AS n_users,
    list_sort(list_distinct(list(user_id))) AS user_ids,
    (epoch_us(max(ended_at)) - epoch_us(min(started_at))) / 1e6 AS duration_s,
    sum(total_cost) AS total_cost,
    TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
    TRY_CAST(sum(n_errors) AS BIGINT) AS n_errors,
    list_sort(list_distinct(list(source_app))) AS source_apps,
    arg_min(environment, (started_at, trace_id)) AS environment
FROM traces
WHERE session_id IS NOT NULL
GROUP BY session_id
