-- What each hour adds to each touched trace: one row per trace and hour, over the run's own rows and over what the
-- warehouse holds for neighbouring hours. Each `first_*` is the earliest non-empty value, so that parts combine, in the
-- order of their hours, without looking at rows again. Everything here is small: the root's texts are looked up later.
WITH ranked AS (
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
        named_agent(name) AS own_named_agent,
        CASE WHEN own_source_app IN ('dify', 'librechat') THEN own_source_app END AS own_app,
        CASE WHEN starts_with(langgraph_node, 'agent=') THEN langgraph_node END AS agent_node,
        CASE WHEN type = 'AGENT' THEN name END AS agent_name
    FROM observations_seen
)
SELECT
    trace_id,
    partition_hour,
    any_value(read_path) AS read_path,
    min(root_key) AS root_key,
    arg_min(observation_id, root_key) AS root_id,
    arg_min(root_kind, root_key) AS root_kind,
    arg_min(environment, position) AS first_environment,
    arg_min(own_trace_name, position) AS first_trace_name,
    arg_min(own_user_id, position) AS first_user_id,
    arg_min(own_session_id, position) AS first_session_id,
    arg_min(own_release, position) AS first_release,
    arg_min(version, position) AS first_version,
    arg_min(own_mixpanel_session_id, position) AS first_mixpanel_session_id,
    arg_min(own_posthog_session_id, position) AS first_posthog_session_id,
    arg_min(own_app, position) AS first_app,
    arg_min(own_writer, position) AS first_writer,
    list(DISTINCT own_source_app) FILTER (own_source_app IS NOT NULL) AS apps,
    list(DISTINCT own_writer) FILTER (own_writer IS NOT NULL) AS writers,
    -- One that tells a name before one that tells an id alone.
    min({'nameless': own_agent.name IS NULL, 'k': position, 'v': own_agent})
        FILTER (own_agent.name IS NOT NULL OR own_agent.id IS NOT NULL) AS first_metadata_agent,
    arg_min(own_named_agent, position) AS first_named_agent,
    arg_min(agent_node, position) AS first_graph_node,
    arg_min(agent_name, position) AS first_agent_name,
    list_distinct(flatten(list(own_tags))) AS tags,
    min(start_time) FILTER (is_synthetic) AS synthetic_at,
    min(start_time) FILTER (NOT is_synthetic) AS started_at,
    max(greatest(start_time, end_time)) FILTER (NOT is_synthetic) AS ended_at,
    count(*) FILTER (NOT is_synthetic) AS n_observations,
    count(*) FILTER (type = 'GENERATION') AS n_generations,
    count(*) FILTER (type = 'TOOL') AS n_tool_calls,
    count(*) FILTER (level = 'ERROR') AS n_errors,
    sum(wide_usage_sum(usage, 'input')) FILTER (NOT counts_characters(type, name, model)) AS input_tokens,
    sum(wide_usage_sum(usage, 'output')) FILTER (NOT counts_characters(type, name, model)) AS output_tokens,
    sum(wide_usage_total(usage)) FILTER (NOT counts_characters(type, name, model)) AS total_tokens,
    sum(total_cost) AS total_cost,
    -- What tables of source apps are made from, so that a change of it is seen from the hours of the other rows. A CASE,
    -- since what FILTER leaves out is computed all the same.
    bit_xor(CASE WHEN own_source_app IN ('dify', 'librechat', 'langchain', 'langgraph') THEN md5_number_lower(
        concat_ws('|', observation_id, epoch_us(start_time), epoch_us(end_time), level, status_message, name, model,
            total_cost, usage, metadata, input, output)) END) AS app_digest
FROM ranked
GROUP BY trace_id, partition_hour
