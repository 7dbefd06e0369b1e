-- One row per trace. On the v2 read path, which has no traces, a trace is rebuilt from its observations within 48 h and
-- belongs to the hour of its first one; on the legacy read path it belongs to the hour of its timestamp.
-- trace_id: Langfuse's trace id.
-- trace_name: Name: the root's trace name, else the earliest one, else the root's own name.
-- timestamp: Time of the trace as Langfuse has it: of the synthetic row, else of the first observation.
-- started_at: Start of the first observation (synthetic row not counted).
-- ended_at: Latest end, or start where there is no end.
-- duration_s [s]: ended_at minus started_at; 0 for a trace without observations.
-- user_id: The root's user, else the earliest one.
-- session_id: The root's session, else the earliest one.
-- environment: The root's environment.
-- release: The root's release, else the earliest one.
-- version: The root's version, else the earliest one.
-- tags: Union of the tags of all rows, sorted.
-- public: Shared publicly.
-- bookmarked: Bookmarked.
-- input: Input of the trace or its root, as text; NULL unless content is read.
-- output: Output of the trace or its root, as text; NULL unless content is read.
-- metadata: Metadata of the trace or its root, with keys gone since.
-- metadata_gone: Keys of metadata that are no longer there, each with the time they were last seen; NULL for none.
-- mixpanel_session_id: Metadata `$mixpanel_session_id`: the root's, else the earliest one.
-- posthog_session_id: Metadata `$posthog_session_id`: the root's, else the earliest one.
-- n_observations: Observations, the synthetic row not counted.
-- n_generations: Observations of type GENERATION.
-- n_tool_calls: Observations of type TOOL.
-- n_errors: Observations of level ERROR.
-- input_tokens [tokens]: Sum over observations of usage keys that contain `input`; NULL beyond 2^63.
-- output_tokens [tokens]: Sum over observations of usage keys that contain `output`; NULL beyond 2^63.
-- total_tokens [tokens]: Sum over observations of usage totals; NULL beyond 2^63.
-- total_cost [USD]: Sum over observations of total costs; NULL when none is known.
-- root_observation_id: The root.
-- root_kind: physical, synthetic, app_root, or none when no root was seen.
-- source_app: Writer: dify, librechat, langchain ...; `unknown` without marks.
-- source_apps: All writers that left marks in the trace, sorted; empty without marks.
-- agent_name: Agent that the trace is of; see agent_source.
-- agent_id: Its id, where metadata or the source app tells one.
-- agent_version: Its version, where metadata tells one.
-- agent_source: How the agent was found: tag, metadata, name_pattern, librechat, dify_app or observation_type (the name of the earliest observation of type AGENT), in this order.
-- is_orphan: No trace row and no root was seen, only inner observations.
-- app_digest: Fingerprint of the observations that source apps and their frameworks wrote; NULL without any.
SELECT
    trace_id,
    trace_name,
    timestamp,
    started_at,
    ended_at,
    (epoch_us(ended_at) - epoch_us(started_at)) / 1e6 AS duration_s,
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
    agent_name,
    agent_id,
    agent_version,
    agent_source,
    is_orphan,
    app_digest,
    read_path,
    partition_hour
FROM trace_context
WHERE is_owner AND partition_hour IN (SELECT partition_hour FROM run_hours)
