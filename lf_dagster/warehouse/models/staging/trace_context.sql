-- Every touched trace as seen from every hour that holds rows of it: parts within 48 h of that hour, combined; on the
-- legacy read path the trace row has the say. `is_owner` marks the one hour whose `traces` row this is, `is_near` hours
-- that the run can change, which are those whose whole window is known.
WITH legacy_rows AS (
    SELECT * FROM staged_traces
    UNION ALL BY NAME
    SELECT * FROM neighbour_traces WHERE read_path = 'legacy'
),
targets AS (
    SELECT trace_id, partition_hour, read_path FROM trace_parts
    UNION
    SELECT trace_id, partition_hour, read_path FROM legacy_rows
),
combined AS (
    SELECT
        t.trace_id,
        t.partition_hour,
        t.read_path,
        min(p.root_key) AS root_key,
        arg_min(p.root, p.root_key) AS root,
        min(p.first_environment).v AS first_environment,
        min(p.first_trace_name).v AS first_trace_name,
        min(p.first_user_id).v AS first_user_id,
        min(p.first_session_id).v AS first_session_id,
        min(p.first_release).v AS first_release,
        min(p.first_version).v AS first_version,
        min(p.first_mixpanel_session_id).v AS first_mixpanel_session_id,
        min(p.first_posthog_session_id).v AS first_posthog_session_id,
        min(p.first_source_app).v AS first_source_app,
        min(p.first_agent_name).v AS agent_name,
        list_sort(list_distinct(flatten(list(p.tags)))) AS row_tags,
        min(p.synthetic_at) AS synthetic_at,
        min(p.started_at) AS observed_at,
        max(p.ended_at) AS ended_at,
        coalesce(sum(p.n_observations), 0) AS n_observations,
        coalesce(sum(p.n_generations), 0) AS n_generations,
        coalesce(sum(p.n_errors), 0) AS n_errors,
        sum(p.input_tokens) AS input_tokens,
        sum(p.output_tokens) AS output_tokens,
        sum(p.total_tokens) AS total_tokens,
        sum(p.total_cost) AS total_cost
    FROM targets AS t
    LEFT JOIN trace_parts AS p
        ON p.trace_id = t.trace_id
        AND p.partition_hour BETWEEN t.partition_hour - INTERVAL 48 HOUR AND t.partition_hour + INTERVAL 48 HOUR
    GROUP BY t.trace_id, t.partition_hour, t.read_path
),
with_legacy_row AS (
    SELECT
        c.*,
        l.row IS NOT NULL AS has_row,
        l.row AS row
    FROM combined AS c
    LEFT JOIN (
        SELECT t.trace_id, t.partition_hour, arg_max(l, l.timestamp) AS row
        FROM targets AS t
        JOIN legacy_rows AS l
            ON l.trace_id = t.trace_id
            AND l.partition_hour BETWEEN t.partition_hour - INTERVAL 48 HOUR AND t.partition_hour + INTERVAL 48 HOUR
        WHERE t.read_path = 'legacy'
        GROUP BY t.trace_id, t.partition_hour
    ) AS l USING (trace_id, partition_hour)
)
SELECT
    trace_id,
    partition_hour,
    read_path,
    CASE
        WHEN read_path = 'legacy' THEN has_row AND row.partition_hour = partition_hour
        ELSE date_trunc('hour', coalesce(observed_at, synthetic_at)) = partition_hour
    END AS is_owner,
    partition_hour IN (SELECT partition_hour FROM near_hours) AS is_near,
    CASE WHEN read_path = 'legacy' THEN row.trace_name ELSE coalesce(root.trace_name, first_trace_name, root.name) END AS trace_name,
    coalesce(row.timestamp, synthetic_at, observed_at) AS timestamp,
    coalesce(observed_at, row.timestamp, synthetic_at) AS started_at,
    coalesce(ended_at, row.timestamp, synthetic_at) AS ended_at,
    CASE WHEN read_path = 'legacy' THEN row.user_id ELSE coalesce(root.user_id, first_user_id) END AS user_id,
    CASE WHEN read_path = 'legacy' THEN row.session_id ELSE coalesce(root.session_id, first_session_id) END AS session_id,
    CASE WHEN read_path = 'legacy' THEN row.environment ELSE coalesce(root.environment, first_environment) END AS environment,
    CASE WHEN read_path = 'legacy' THEN row.release ELSE coalesce(root.release, first_release) END AS release,
    CASE WHEN read_path = 'legacy' THEN row.version ELSE coalesce(root.version, first_version) END AS version,
    coalesce(CASE WHEN read_path = 'legacy' THEN row.tags ELSE row_tags END, []) AS tags,
    coalesce(row.public, root.public, false) AS public,
    coalesce(row.bookmarked, root.bookmarked, false) AS bookmarked,
    CASE WHEN read_path = 'legacy' THEN row.input ELSE root.input END AS input,
    CASE WHEN read_path = 'legacy' THEN row.output ELSE root.output END AS output,
    coalesce(CASE WHEN read_path = 'legacy' THEN row.metadata ELSE root.metadata END, '{}'::JSON) AS metadata,
    CASE WHEN read_path = 'legacy' THEN row.mixpanel_session_id
        ELSE coalesce(root.mixpanel_session_id, first_mixpanel_session_id) END AS mixpanel_session_id,
    CASE WHEN read_path = 'legacy' THEN row.posthog_session_id
        ELSE coalesce(root.posthog_session_id, first_posthog_session_id) END AS posthog_session_id,
    n_observations::BIGINT AS n_observations,
    n_generations::BIGINT AS n_generations,
    n_errors::BIGINT AS n_errors,
    input_tokens::BIGINT AS input_tokens,
    output_tokens::BIGINT AS output_tokens,
    total_tokens::BIGINT AS total_tokens,
    total_cost::DECIMAL(38, 12) AS total_cost,
    root.observation_id AS root_observation_id,
    coalesce(root.kind, 'none') AS root_kind,
    CASE
        WHEN list_contains(tags, 'librechat') OR trace_name IN ('AgentRun', 'TitleRun', 'MemoryRun') THEN 'librechat'
        ELSE coalesce(row.source_app, root.source_app, first_source_app, 'unknown')
    END AS source_app,
    agent_name,
    root_key IS NULL AND NOT has_row AS is_orphan
FROM with_legacy_row
