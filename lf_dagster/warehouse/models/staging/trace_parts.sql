-- What each hour adds to each touched trace: one row per trace and hour, over the run's own rows and over what the
-- warehouse holds for neighbouring hours. Each `first_*` is the earliest non-empty value with its order key, so that
-- parts combine without looking at rows again.
WITH observations_seen AS (
    SELECT *, order_key(start_time, observation_id) AS position FROM staged_observations WHERE trace_id <> ''
    UNION ALL BY NAME
    SELECT
        *,
        order_key(start_time, observation_id) AS position,
        writer_of(mark, writer_keys(metadata, mark), name, type) AS own_writer,
        mark[14] AS langgraph_node,
        metadata_agent(metadata) AS own_agent
    FROM (SELECT *, writer_marks(metadata) AS mark FROM neighbour_observations)
),
ranked AS (
    SELECT
        *,
        CASE
            WHEN is_synthetic THEN 'synthetic'
            WHEN parent_observation_id IS NULL THEN 'physical'
            WHEN is_root THEN 'app_root'
        END AS root_kind,
        -- Root: the synthetic row, else the earliest without parent, else the earliest flagged (source-apps.md 5.1).
        CASE root_kind WHEN 'synthetic' THEN 0 WHEN 'physical' THEN 1 WHEN 'app_root' THEN 2 END
            * 1329227995784915872903807060280344576::HUGEINT + position AS root_key,
        named_agent(name) AS own_named_agent
    FROM observations_seen
)
SELECT
    trace_id,
    partition_hour,
    any_value(read_path) AS read_path,
    min(root_key) AS root_key,
    arg_min({
        'observation_id': observation_id, 'kind': root_kind, 'name': name, 'start_time': start_time,
        'trace_name': coalesce(own_trace_name, CASE WHEN is_synthetic THEN name END),
        'user_id': own_user_id, 'session_id': own_session_id, 'environment': environment,
        'release': own_release, 'version': version, 'public': public, 'bookmarked': bookmarked,
        'input': input, 'output': output, 'metadata': metadata,
        'metadata_gone': metadata_gone, 'source_app': own_source_app, 'writer': own_writer,
        'agent': own_agent,
        'mixpanel_session_id': own_mixpanel_session_id, 'posthog_session_id': own_posthog_session_id
    }, root_key) AS root,
    min({'k': position, 'v': environment}) AS first_environment,
    min({'k': position, 'v': own_trace_name}) FILTER (own_trace_name IS NOT NULL) AS first_trace_name,
    min({'k': position, 'v': own_user_id}) FILTER (own_user_id IS NOT NULL) AS first_user_id,
    min({'k': position, 'v': own_session_id}) FILTER (own_session_id IS NOT NULL) AS first_session_id,
    min({'k': position, 'v': own_release}) FILTER (own_release IS NOT NULL) AS first_release,
    min({'k': position, 'v': version}) FILTER (version IS NOT NULL) AS first_version,
    min({'k': position, 'v': own_mixpanel_session_id}) FILTER (own_mixpanel_session_id IS NOT NULL)
        AS first_mixpanel_session_id,
    min({'k': position, 'v': own_posthog_session_id}) FILTER (own_posthog_session_id IS NOT NULL)
        AS first_posthog_session_id,
    min({'k': position, 'v': own_source_app}) FILTER (own_source_app IN ('dify', 'librechat')) AS first_app,
    min({'k': position, 'v': own_writer}) FILTER (own_writer IS NOT NULL) AS first_writer,
    list(DISTINCT own_source_app) FILTER (own_source_app IS NOT NULL) AS apps,
    list(DISTINCT own_writer) FILTER (own_writer IS NOT NULL) AS writers,
    -- One that tells a name before one that tells an id alone.
    min({'nameless': own_agent.name IS NULL, 'k': position, 'v': own_agent})
        FILTER (own_agent.name IS NOT NULL OR own_agent.id IS NOT NULL) AS first_metadata_agent,
    min({'k': position, 'v': own_named_agent}) FILTER (own_named_agent IS NOT NULL) AS first_named_agent,
    min({'k': position, 'v': langgraph_node}) FILTER (starts_with(langgraph_node, 'agent=')) AS first_graph_node,
    min({'k': position, 'v': name}) FILTER (type = 'AGENT' AND name IS NOT NULL) AS first_agent_name,
    list_distinct(flatten(list(own_tags))) AS tags,
    min(start_time) FILTER (is_synthetic) AS synthetic_at,
    min(start_time) FILTER (NOT is_synthetic) AS started_at,
    max(greatest(start_time, end_time)) FILTER (NOT is_synthetic) AS ended_at,
    count(*) FILTER (NOT is_synthetic) AS n_observations,
    count(*) FILTER (type = 'GENERATION') AS n_generations,
    count(*) FILTER (type = 'TOOL') AS n_tool_calls,
    count(*) FILTER (level = 'ERROR') AS n_errors,
    sum(usage_sum(usage, 'input')) FILTER (NOT counts_characters(type, name, model)) AS input_tokens,
    sum(usage_sum(usage, 'output')) FILTER (NOT counts_characters(type, name, model)) AS output_tokens,
    sum(usage_total(usage)) FILTER (NOT counts_characters(type, name, model)) AS total_tokens,
    sum(total_cost) AS total_cost,
    -- What tables of source apps are made from, so that a change of it is seen from the hours of the other rows.
    bit_xor(md5_number_lower(concat_ws('|', observation_id, epoch_us(start_time), epoch_us(end_time), level,
        status_message, name, model, total_cost, usage, metadata, input, output)))
        FILTER (own_source_app IN ('dify', 'librechat', 'langchain', 'langgraph')) AS app_digest
FROM ranked
GROUP BY trace_id, partition_hour
