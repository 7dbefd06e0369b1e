-- One row per observation (span, event, generation, tool call ...) of an hour. What a row lacks is filled from its
-- trace; what the row itself says is kept in the `own_*` columns.
-- observation_id: Langfuse's id; unique within a trace. A synthetic row has the id `t-<trace_id>`.
-- trace_id: The trace; empty for a legacy observation without one.
-- parent_observation_id: Parent within the trace as served; on v2 it may be the synthetic row.
-- type: SPAN, EVENT, GENERATION, AGENT, TOOL, CHAIN, RETRIEVER, EVALUATOR, EMBEDDING, GUARDRAIL or what comes next.
-- name: Name of the observation.
-- start_time: Start; decides the partition.
-- end_time: End; NULL for events, synthetic rows and what still ran when it was read, and outside the years 1900 to 2299, which Langfuse cannot store.
-- completion_start_time: First token of a streamed answer.
-- level: DEBUG, DEFAULT, WARNING, ERROR.
-- status_message: Text that goes with the level.
-- environment: Langfuse environment; `default` when unset.
-- version: Version of the observation.
-- release: The row's release, else the trace's.
-- user_id: The row's user, else the trace's.
-- session_id: The row's session, else the trace's.
-- own_user_id: User on the row itself; NULL on the legacy read path, whose rows do not carry it.
-- own_session_id: Session on the row itself; as own_user_id.
-- own_trace_name: Trace name on the row itself; as own_user_id.
-- own_release: Release on the row itself; as own_user_id.
-- own_tags: Tags on the row itself, in the sender's order; empty on the legacy read path.
-- own_mixpanel_session_id: Metadata `$mixpanel_session_id` of the row itself.
-- own_posthog_session_id: Metadata `$posthog_session_id` of the row itself.
-- own_source_app: Writer that this row carries the marks of.
-- trace_name: Name of the trace.
-- trace_user_id: User of the trace.
-- trace_session_id: Session of the trace.
-- trace_release: Release of the trace.
-- trace_mixpanel_session_id: Metadata `$mixpanel_session_id` of the trace.
-- trace_posthog_session_id: Metadata `$posthog_session_id` of the trace.
-- tags: Tags of the trace, sorted.
-- input: Input as text; NULL unless content is read.
-- output: Output as text; NULL unless content is read.
-- metadata: Metadata as served, with keys gone since; values beyond 200 characters may be cut by Langfuse.
-- metadata_gone: Keys of metadata that are no longer there, each with the time they were last seen; NULL for none.
-- model: Model name as sent.
-- model_parameters: Model parameters.
-- usage [tokens]: Usage by key, as sent; NULL for a value beyond 2^63.
-- cost [USD]: Cost by key.
-- total_cost [USD]: The key `total` of cost; NULL when Langfuse knows none (it serves 0 then).
-- latency_s [s]: End minus start; may be negative when a client's clock jumps; NULL from 10^11 on.
-- ttft_s [s]: First token minus start.
-- prompt_name: Langfuse prompt that was used.
-- prompt_version: Its version.
-- is_root: Root of its trace, by flag on v2, by missing parent on legacy.
-- is_synthetic: Stands for a legacy trace row on v2; no observation of its own.
-- public: Trace is shared publicly; false on the legacy read path.
-- bookmarked: Trace is bookmarked; false on the legacy read path.
-- depth: Number of known ancestors, the synthetic row not counted; NULL in a cycle.
-- source_app: Writer of the trace: dify, librechat, langchain ...; `unknown` without marks.
-- created_at: First written at Langfuse, as served.
-- updated_at: Last written at Langfuse, as served.
SELECT
    o.observation_id,
    o.trace_id,
    o.parent_observation_id,
    o.type,
    o.name,
    o.start_time,
    o.end_time,
    o.completion_start_time,
    o.level,
    o.status_message,
    o.environment,
    o.version,
    coalesce(o.own_release, c.release) AS release,
    coalesce(o.own_user_id, c.user_id) AS user_id,
    coalesce(o.own_session_id, c.session_id) AS session_id,
    o.own_user_id,
    o.own_session_id,
    o.own_trace_name,
    o.own_release,
    o.own_tags,
    o.own_mixpanel_session_id,
    o.own_posthog_session_id,
    o.own_source_app,
    c.trace_name,
    c.user_id AS trace_user_id,
    c.session_id AS trace_session_id,
    c.release AS trace_release,
    c.mixpanel_session_id AS trace_mixpanel_session_id,
    c.posthog_session_id AS trace_posthog_session_id,
    coalesce(c.tags, []) AS tags,
    o.input,
    o.output,
    o.metadata,
    o.metadata_gone,
    o.model,
    o.model_parameters,
    o.usage,
    o.cost,
    o.total_cost,
    o.latency_s,
    o.ttft_s,
    o.prompt_name,
    o.prompt_version,
    o.is_root,
    o.is_synthetic,
    o.public,
    o.bookmarked,
    CASE
        WHEN o.parent_observation_id IS NULL OR o.parent_observation_id = 't-' || o.trace_id THEN 0
        ELSE d.depth
    END AS depth,
    coalesce(c.source_app, 'unknown') AS source_app,
    o.created_at,
    o.updated_at,
    o.read_path,
    o.partition_hour
FROM staged_observations AS o
LEFT JOIN trace_context AS c USING (trace_id, partition_hour)
LEFT JOIN observation_depths AS d USING (trace_id, observation_id, partition_hour)
