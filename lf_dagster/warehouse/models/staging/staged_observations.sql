-- Observations of the run's hours, read out of the JSON of either read path; `""` is NULL and nothing is filled in.
-- Rows that cannot be read stay, marked by `problem`, so that they are reported (invariant I8).
WITH parsed AS (
    SELECT
        id,
        event_time,
        read_path,
        partition_hour,
        gone_keys(metadata_gone) AS gone,
        coalesce(read_observation(json), read_observation(without_surrogates(json))) AS j
    FROM raw_observations
),
normalised AS (
    SELECT
        partition_hour,
        read_path,
        gone,
        id AS observation_id,
        coalesce(j.traceId, '') AS trace_id,
        nullif(j.parentObservationId, '') AS parent_observation_id,
        coalesce(nullif(j.type, ''), 'SPAN') AS type,
        nullif(j.name, '') AS name,
        event_time AS start_time,
        known_time(j.endTime) AS end_time,
        known_time(j.completionStartTime) AS completion_start_time,
        coalesce(nullif(j.level, ''), 'DEFAULT') AS level,
        nullif(j.statusMessage, '') AS status_message,
        coalesce(nullif(j.environment, ''), 'default') AS environment,
        nullif(j.version, '') AS version,
        nullif(j.release, '') AS own_release,
        nullif(j.userId, '') AS own_user_id,
        nullif(j.sessionId, '') AS own_session_id,
        nullif(j.traceName, '') AS own_trace_name,
        coalesce(list_filter(j.tags, lambda tag: tag IS NOT NULL), []) AS own_tags,
        content_text(j.input) AS input,
        content_text(j.output) AS output,
        json_object_or_empty(j.metadata) AS metadata,
        coalesce(nullif(j.model, ''), nullif(j.providedModelName, '')) AS model,
        CASE WHEN j.modelParameters::VARCHAR NOT IN ('null', '{}') THEN j.modelParameters END AS model_parameters,
        coalesce(j.usageDetails, MAP {}::MAP(VARCHAR, BIGINT)) AS usage,
        TRY_CAST(j.costDetails AS MAP(VARCHAR, DECIMAL(18, 12))) AS known_cost,
        coalesce(epoch_us(end_time) - epoch_us(event_time), known_seconds(j.latency) * 1e6) / 1e6 AS latency_s,
        coalesce(epoch_us(completion_start_time) - epoch_us(event_time), known_seconds(j.timeToFirstToken) * 1e6) / 1e6
            AS ttft_s,
        nullif(j.promptName, '') AS prompt_name,
        j.promptVersion AS prompt_version,
        coalesce(j.isRootObservation, nullif(j.parentObservationId, '') IS NULL) AS is_root,
        coalesce(id = 't-' || j.traceId, false) AS is_synthetic,
        coalesce(j.public, false) AS public,
        coalesce(j.bookmarked, false) AS bookmarked,
        known_time(j.createdAt) AS created_at,
        known_time(j.updatedAt) AS updated_at,
        CASE
            WHEN j.id IS NULL THEN 'malformed JSON'
            WHEN list_count(map_values(known_cost)) < list_count(map_values(j.costDetails)) THEN 'a cost beyond DECIMAL(18, 12)'
        END AS problem,
        writer_marks(j.metadata) AS mark
    FROM parsed
)
SELECT
    * EXCLUDE (known_cost, mark, keys, gone) REPLACE (with_gone_keys(metadata, gone) AS metadata),
    last_seen(gone) AS metadata_gone,
    coalesce(known_cost, MAP {}::MAP(VARCHAR, DECIMAL(18, 12))) AS cost,
    known_cost['total'] AS total_cost,
    id_text(mark."$mixpanel_session_id") AS own_mixpanel_session_id,
    id_text(mark."$posthog_session_id") AS own_posthog_session_id,
    writer_of(mark, keys, name, type) AS own_writer,
    mark.langgraph_node AS langgraph_node,
    metadata_agent(metadata) AS own_agent,
    coalesce(app_of(mark, keys, metadata, name, own_trace_name, own_tags), own_writer) AS own_source_app
FROM (SELECT *, writer_keys(metadata, mark) AS keys FROM normalised)
