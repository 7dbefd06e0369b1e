-- One row per user, derived from the user's traces: always as right as the traces.
-- materialized: view
-- user_id: User id as the application sent it.
-- first_seen: Start of the first trace.
-- last_seen: End of the last trace.
-- n_sessions: Distinct sessions.
-- n_traces: Traces.
-- total_cost [USD]: Sum of the traces' costs.
-- total_tokens [tokens]: Sum of the traces' tokens; NULL beyond 2^63.
-- n_errors: Observations of level ERROR.
-- source_apps: Writers, sorted.
-- is_tenant_id: Only seen where Dify puts its tenant id into the user field (conversation naming, first release).
SELECT
    user_id,
    min(started_at) AS first_seen,
    max(ended_at) AS last_seen,
    count(DISTINCT session_id) AS n_sessions,
    count(*) AS n_traces,
    sum(total_cost) AS total_cost,
    TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
    TRY_CAST(sum(n_errors) AS BIGINT) AS n_errors,
    list_sort(list_distinct(list(source_app))) AS source_apps,
    coalesce(bool_and(CASE WHEN source_app = 'dify' THEN trace_name IN ('generate_conversation_name', 'generate_name')
        OR coalesce(json_extract_string(metadata, '$.tenant_id') = user_id, false) ELSE false END), false) AS is_tenant_id
FROM traces
WHERE user_id IS NOT NULL
GROUP BY user_id
