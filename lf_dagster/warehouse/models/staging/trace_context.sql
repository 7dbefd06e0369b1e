-- Every touched trace as seen from every hour that holds rows of it: parts within 48 h of that hour, combined. A trace
-- row of the legacy read path has the say, also over hours that were read on v2 since; without one, a trace with parts
-- from v2 is what its parts say. `is_owner` marks the one hour whose `traces` row this is, `is_near` hours that the run
-- can change, which are those whose whole window is known.
WITH legacy_rows AS (
    SELECT
        * EXCLUDE (mark, keys),
        app_of(mark, keys, metadata, trace_name, trace_name, tags) AS app,
        writer_of(mark, keys, trace_name, NULL) AS writer,
        metadata_agent(metadata) AS agent
    FROM (
        SELECT *, writer_keys(metadata, mark) AS keys
        FROM (
            SELECT *, writer_marks(metadata) AS mark
            FROM (
                SELECT * FROM staged_traces
                UNION ALL BY NAME
                SELECT * FROM neighbour_traces WHERE read_path = 'legacy'
            )
        )
    )
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
        arg_min(p.root_id, p.root_key) AS root_id,
        arg_min(p.root_kind, p.root_key) AS root_kind,
        arg_min(p.partition_hour, p.root_key) AS root_hour,
        arg_min(p.first_environment, p.partition_hour) AS first_environment,
        arg_min(p.first_trace_name, p.partition_hour) AS first_trace_name,
        arg_min(p.first_user_id, p.partition_hour) AS first_user_id,
        arg_min(p.first_session_id, p.partition_hour) AS first_session_id,
        arg_min(p.first_release, p.partition_hour) AS first_release,
        arg_min(p.first_version, p.partition_hour) AS first_version,
        arg_min(p.first_mixpanel_session_id, p.partition_hour) AS first_mixpanel_session_id,
        arg_min(p.first_posthog_session_id, p.partition_hour) AS first_posthog_session_id,
        arg_min(p.first_app, p.partition_hour) AS first_app,
        arg_min(p.first_writer, p.partition_hour) AS first_writer,
        flatten(list(p.apps)) || flatten(list(p.writers)) AS row_writers,
        min(p.first_metadata_agent).v AS first_metadata_agent,
        arg_min(p.first_named_agent, p.partition_hour) AS first_named_agent,
        arg_min(p.first_graph_node, p.partition_hour) AS first_graph_node,
        arg_min(p.first_agent_name, p.partition_hour) AS first_agent_name,
        list_sort(list_distinct(flatten(list(p.tags)))) AS row_tags,
        min(p.synthetic_at) AS synthetic_at,
        min(p.started_at) AS observed_at,
        max(p.ended_at) AS ended_at,
        coalesce(sum(p.n_observations), 0) AS n_observations,
        coalesce(sum(p.n_generations), 0) AS n_generations,
        coalesce(sum(p.n_tool_calls), 0) AS n_tool_calls,
        coalesce(sum(p.n_errors), 0) AS n_errors,
        sum(p.input_tokens) AS input_tokens,
        sum(p.output_tokens) AS output_tokens,
        sum(p.total_tokens) AS total_tokens,
        sum(p.total_cost) AS total_cost,
        bit_xor(p.app_digest) AS app_digest,
        coalesce(bool_or(p.read_path = 'v2'), false) AS has_v2_parts
    FROM targets AS t
    LEFT JOIN trace_parts AS p
        ON p.trace_id = t.trace_id
        AND p.partition_hour BETWEEN t.partition_hour - INTERVAL 48 HOUR AND t.partition_hour + INTERVAL 48 HOUR
    GROUP BY t.trace_id, t.partition_hour, t.read_path
),
-- The newest trace row in reach; a struct, since it is NULL where there is none, as on v2.
owners AS (
    SELECT t.trace_id, t.partition_hour, arg_max(l, l.timestamp) AS row
    FROM targets AS t
    JOIN legacy_rows AS l
        ON l.trace_id = t.trace_id
        AND l.partition_hour BETWEEN t.partition_hour - INTERVAL 48 HOUR AND t.partition_hour + INTERVAL 48 HOUR
    GROUP BY t.trace_id, t.partition_hour
),
roots AS (
    SELECT *, coalesce(own_trace_name, CASE WHEN is_synthetic THEN name END) AS told_trace_name
    FROM observations_seen
    WHERE is_root OR is_synthetic OR parent_observation_id IS NULL
),
resolved AS (
    SELECT
        t.trace_id,
        t.partition_hour,
        row.trace_id IS NOT NULL AS has_row,
        has_row OR (t.read_path = 'legacy' AND NOT has_v2_parts) AS of_row,
        -- What is made of parts is no trace row to other hours.
        CASE WHEN of_row THEN t.read_path ELSE 'v2' END AS read_path,
        row,
        coalesce(observed_at, synthetic_at) AS began_at,
        CASE WHEN of_row THEN row.trace_name ELSE coalesce(root.told_trace_name, first_trace_name, root.name) END
            AS trace_name,
        coalesce(row.timestamp, synthetic_at, observed_at) AS timestamp,
        coalesce(observed_at, row.timestamp, synthetic_at) AS started_at,
        coalesce(t.ended_at, row.timestamp, synthetic_at) AS ended_at,
        CASE WHEN of_row THEN row.user_id ELSE coalesce(root.own_user_id, first_user_id) END AS user_id,
        CASE WHEN of_row THEN row.session_id ELSE coalesce(root.own_session_id, first_session_id) END AS session_id,
        CASE WHEN of_row THEN row.environment ELSE coalesce(root.environment, first_environment) END AS environment,
        CASE WHEN of_row THEN row.release ELSE coalesce(root.own_release, first_release) END AS release,
        CASE WHEN of_row THEN row.version ELSE coalesce(root.version, first_version) END AS version,
        coalesce(CASE WHEN of_row THEN row.tags ELSE row_tags END, []) AS tags,
        coalesce(row.public, root.public, false) AS public,
        coalesce(row.bookmarked, root.bookmarked, false) AS bookmarked,
        CASE WHEN of_row THEN row.input ELSE root.input END AS input,
        CASE WHEN of_row THEN row.output ELSE root.output END AS output,
        root.metadata AS root_metadata,
        coalesce(CASE WHEN of_row THEN row.metadata ELSE root.metadata END, '{}'::JSON) AS metadata,
        CASE WHEN of_row THEN row.metadata_gone ELSE root.metadata_gone END AS metadata_gone,
        CASE WHEN of_row THEN row.mixpanel_session_id
            ELSE coalesce(root.own_mixpanel_session_id, first_mixpanel_session_id) END AS mixpanel_session_id,
        CASE WHEN of_row THEN row.posthog_session_id
            ELSE coalesce(root.own_posthog_session_id, first_posthog_session_id) END AS posthog_session_id,
        n_observations::BIGINT AS n_observations,
        n_generations::BIGINT AS n_generations,
        n_tool_calls::BIGINT AS n_tool_calls,
        n_errors::BIGINT AS n_errors,
        known_sum(input_tokens) AS input_tokens,
        known_sum(output_tokens) AS output_tokens,
        known_sum(total_tokens) AS total_tokens,
        t.total_cost::DECIMAL(38, 12) AS total_cost,
        t.root_id AS root_observation_id,
        coalesce(t.root_kind, 'none') AS root_kind,
        root.own_source_app AS root_app,
        first_app,
        first_writer,
        row_writers,
        CASE
            WHEN row.agent.name IS NOT NULL THEN row.agent
            WHEN root.own_agent.name IS NOT NULL THEN root.own_agent
            WHEN first_metadata_agent.name IS NOT NULL THEN first_metadata_agent
            WHEN row.agent.id IS NOT NULL THEN row.agent
            WHEN root.own_agent.id IS NOT NULL THEN root.own_agent
            ELSE first_metadata_agent
        END AS told_agent,
        first_named_agent,
        first_graph_node,
        first_agent_name,
        t.root_key IS NULL AND NOT has_row AS is_orphan,
        app_digest
    FROM combined AS t
    LEFT JOIN roots AS root
        ON root.trace_id = t.trace_id AND root.observation_id = t.root_id AND root.partition_hour = t.root_hour
    LEFT JOIN owners AS l ON l.trace_id = t.trace_id AND l.partition_hour = t.partition_hour
),
-- Each step uses columns of the one before: an alias within one SELECT is computed at each place that names it.
with_app AS (
    SELECT
        *,
        CASE
            WHEN row.app = 'dify' OR root_app = 'dify' THEN 'dify'
            WHEN list_contains(tags, 'librechat') THEN 'librechat'
            ELSE coalesce(row.app, first_app, row.writer, root_app, first_writer, 'unknown')
        END AS source_app,
        list_filter(
            list_transform(list_filter(tags, lambda tag: starts_with(tag, 'agent:')), lambda tag: trim(substr(tag, 7))),
            lambda agent: agent <> '') AS tag_agents,
        coalesce(named_agent(trace_name), first_named_agent) AS pattern_agent
    FROM resolved
),
with_app_agents AS (
    SELECT
        *,
        -- The apps write through LangChain, so that its marks are theirs (Dify's look like it).
        list_sort(list_filter(list_distinct([source_app, row.app, row.writer] || coalesce(row_writers, [])),
            lambda writer: writer <> 'unknown'
                AND NOT (source_app IN ('dify', 'librechat') AND writer IN ('langchain', 'langgraph'))))
            AS source_apps,
        CASE WHEN source_app = 'librechat' THEN substr(first_graph_node, 7) END AS graph_agent_id,
        CASE WHEN source_app = 'dify' THEN coalesce(
            first_text(json_extract(metadata, ['$.app_id', '$."dify.app_id"', '$.dify.app_id'])),
            first_text(json_extract(root_metadata, ['$.app_id', '$."dify.app_id"', '$.dify.app_id']))) END
            AS dify_app_id,
        CASE WHEN source_app = 'dify' THEN first_text(json_extract(metadata, ['$.app_name'])) END AS dify_app_name
    FROM with_app
),
with_agent_source AS (
    SELECT
        *,
        coalesce(dify_app_name, dify_app_id) AS dify_app,
        CASE
            WHEN len(tag_agents) > 0 THEN 'tag'
            WHEN told_agent.name IS NOT NULL THEN 'metadata'
            WHEN pattern_agent IS NOT NULL THEN 'name_pattern'
            WHEN graph_agent_id IS NOT NULL THEN 'librechat'
            WHEN dify_app IS NOT NULL THEN 'dify_app'
            WHEN first_agent_name IS NOT NULL THEN 'observation_type'
            WHEN told_agent.id IS NOT NULL THEN 'metadata'
        END AS agent_source
    FROM with_app_agents
),
with_agent AS (
    SELECT
        *,
        CASE agent_source
            WHEN 'tag' THEN tag_agents[1]
            WHEN 'metadata' THEN coalesce(told_agent.name, told_agent.id)
            WHEN 'name_pattern' THEN pattern_agent
            -- Ids of agents that are not saved are `<endpoint>__<model>___<label>`, with an index at the end where needed.
            WHEN 'librechat' THEN coalesce(
                nullif(regexp_extract(graph_agent_id, '^.+?__.+?___(.+?)(____[0-9]+)?$', 1), ''), graph_agent_id)
            WHEN 'dify_app' THEN dify_app
            WHEN 'observation_type' THEN first_agent_name
        END AS agent_name
    FROM with_agent_source
)
SELECT
    trace_id,
    partition_hour,
    read_path,
    CASE
        WHEN of_row THEN has_row AND row.partition_hour = partition_hour
        ELSE date_trunc('hour', began_at) = partition_hour
    END AS is_owner,
    partition_hour IN (SELECT partition_hour FROM near_hours) AS is_near,
    trace_name,
    timestamp,
    started_at,
    ended_at,
    user_id,
    session_id,
    environment,
    release,
    version,
    tags,
    public,
    bookmarked,
    input,
    output,
    metadata,
    metadata_gone,
    mixpanel_session_id,
    posthog_session_id,
    n_observations,
    n_generations,
    n_tool_calls,
    n_errors,
    input_tokens,
    output_tokens,
    total_tokens,
    total_cost,
    root_observation_id,
    root_kind,
    source_app,
    source_apps,
    agent_source,
    agent_name,
    -- Id and version in metadata belong to the name in metadata: to another name they say nothing.
    CASE agent_source
        WHEN 'librechat' THEN graph_agent_id
        WHEN 'dify_app' THEN dify_app_id
        ELSE CASE WHEN coalesce(told_agent.name, agent_name) = agent_name THEN told_agent.id END
    END AS agent_id,
    CASE WHEN coalesce(told_agent.name, agent_name) = agent_name THEN told_agent.version END AS agent_version,
    is_orphan,
    app_digest
FROM with_agent
