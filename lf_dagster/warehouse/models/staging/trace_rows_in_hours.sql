-- What each hour adds to each touched trace: one row per trace and hour, over the run's own rows and those of
-- neighbouring hours that the warehouse already holds. Combined per window by trace_context.
WITH observations_seen AS (
    SELECT * FROM staged_observations WHERE trace_id <> ''
    UNION ALL BY NAME
    SELECT * FROM neighbour_observations
),
ranked AS (
    SELECT
        *,
        -- root = synthetic row, else earliest without parent, else earliest flagged root (source-apps.md 5.1)
        CASE WHEN is_synthetic THEN 0 WHEN parent_observation_id IS NULL THEN 1 WHEN is_root THEN 2 END
            * 170141183460469231731687303715884105::HUGEINT + order_key AS root_key
    FROM observations_seen
)
SELECT
    trace_id,
    partition_hour,
    any_value(read_path) AS read_path,
    min(root_key) AS root_key,
    arg_min({
        'observation_id': observation_id,
        'kind': CASE WHEN is_synthetic THEN 'synthetic' WHEN parent_observation_id IS NULL THEN 'physical' ELSE 'app_root' END,
        'name': name, 'trace_name': coalesce(own_trace_name, CASE WHEN is_synthetic THEN name END),
        'user_id': own_user_id, 'session_id': own_session_id, 'environment': environment, 'release': own_release,
        'version': version, 'public': public, 'bookmarked': bookmarked, 'input': input, 'output': output,
        'metadata': metadata, 'start_time': start_time, 'app_hint': app_hint,
        'mixpanel_session_id': own_mixpanel_session_id, 'posthog_session_id': own_posthog_session_id
    }, root_key) AS root,
    min(order_key) AS first_key,
    arg_min(environment, order_key) AS first_environment,
    arg_min(own_trace_name, order_key) AS first_trace_name,
    min(order_key) FILTER (own_trace_name IS NOT NULL) AS trace_name_key,
    arg_min(own_user_id, order_key) AS first_user_id,
    min(order_key) FILTER (own_user_id IS NOT NULL) AS user_id_key,
    arg_min(own_session_id, order_key) AS first_session_id,
    min(order_key) FILTER (own_session_id IS NOT NULL) AS session_id_key,
    arg_min(own_release, order_key) AS first_release,
    min(order_key) FILTER (own_release IS NOT NULL) AS release_key,
    arg_min(version, order_key) AS first_version,
    min(order_key) FILTER (version IS NOT NULL) AS version_key,
    arg_min(own_mixpanel_session_id, order_key) AS first_mixpanel_session_id,
    min(order_key) FILTER (own_mixpanel_session_id IS NOT NULL) AS mixpanel_session_id_key,
    arg_min(own_posthog_session_id, order_key) AS first_posthog_session_id,
    min(order_key) FILTER (own_posthog_session_id IS NOT NULL) AS posthog_session_id_key,
    arg_min(app_hint, order_key) AS first_app_hint,
    min(order_key) FILTER (app_hint IS NOT NULL) AS app_hint_key,
    arg_min(name, order_key) FILTER (type = 'AGENT') AS first_agent_name,
    min(order_key) FILTER (type = 'AGENT' AND name IS NOT NULL) AS agent_name_key,
    list_distinct(flatten(list(own_tags))) AS tags,
    min(start_time) FILTER (NOT is_synthetic) AS started_at,
    min(start_time) AS first_row_at,
    max(greatest(start_time, end_time)) FILTER (NOT is_synthetic) AS ended_at,
    count(*) FILTER (NOT is_synthetic) AS n_observations,
    count(*) FILTER (type = 'GENERATION') AS n_generations,
    count(*) FILTER (level = 'ERROR') AS n_errors,
    sum(total_cost) AS total_cost,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(total_tokens) AS total_tokens
FROM ranked
GROUP BY ALL
