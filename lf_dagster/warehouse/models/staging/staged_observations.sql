-- Observations of the run's hours, read out of the JSON of either read path; `""` is NULL and nothing is filled in.
-- Rows that cannot be read stay, marked by `problem`, so that they are reported (invariant I8).
WITH parsed AS (
    SELECT
        id,
        event_time,
        read_path,
        partition_hour,
        coalesce(read_observation(json), read_observation(without_surrogates(json))) AS j
    FROM raw_observations
),
normalised AS (
    SELECT
        partition_hour,
        read_path,
        id AS observation_id,
        coalesce(j.traceId, '') AS trace_id,
        nullif(j.parentObservationId, '') AS parent_observation_id,
        coalesce(nullif(j.type, ''), 'SPAN') AS type,
        nullif(j.name, '') AS name,
        event_time AS start_time,
        j.endTime AS end_time,
        j.completionStartTime AS completion_start_time,
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
        json_or_null(j.modelParameters) AS model_parameters,
        coalesce(j.usageDetails, MAP {}::MAP(VARCHAR, BIGINT)) AS usage,
        TRY_CAST(j.costDetails AS MAP(VARCHAR, DECIMAL(18, 12))) AS known_cost,
        coalesce(epoch_us(j.endTime) - epoch_us(event_time), j.latency * 1e6) / 1e6 AS latency_s,
        coalesce(epoch_us(j.completionStartTime) - epoch_us(event_time), j.timeToFirstToken * 1e6) / 1e6 AS ttft_s,
        nullif(j.promptName, '') AS prompt_name,
        j.promptVersion AS prompt_version,
        coalesce(j.isRootObservation, nullif(j.parentObservationId, '') IS NULL) AS is_root,
        coalesce(id = 't-' || j.traceId, false) AS is_synthetic,
        coalesce(j.public, false) AS public,
        coalesce(j.bookmarked, false) AS bookmarked,
        j.createdAt AS created_at,
        j.updatedAt AS updated_at,
        CASE
            WHEN j.id IS NULL THEN 'malformed JSON'
            WHEN j.costDetails IS NOT NULL AND known_cost IS NULL THEN 'a cost beyond DECIMAL(18, 12)'
        END AS problem,
        json_extract_string(j.metadata, [
            '$."scope.name"', '$.scope.name', '$."resourceAttributes.service.name"',
            '$.resourceAttributes."service.name"', '$.workflow_run_id', '$.tenant_id', '$.node_execution_id',
            '$.message_id', '$.from_source', '$.ls_provider', '$.litellm_response_cost'
        ]) AS mark
    FROM parsed
)
SELECT
    * EXCLUDE (known_cost, mark, scope),
    coalesce(known_cost, MAP {}::MAP(VARCHAR, DECIMAL(18, 12))) AS cost,
    known_cost['total'] AS total_cost,
    metadata_id(metadata, '$."$mixpanel_session_id"') AS own_mixpanel_session_id,
    metadata_id(metadata, '$."$posthog_session_id"') AS own_posthog_session_id,
    -- Which writer this row carries the marks of (source-apps.md 5.3 and 7), in that order.
    CASE
        WHEN coalesce(mark[3], mark[4]) IN ('dify', 'dify-langfuse-app-trace')
            OR (mark[5] IS NOT NULL AND (mark[6] IS NOT NULL OR mark[7] IS NOT NULL))
            OR (mark[8] IS NOT NULL AND mark[9] IS NOT NULL) THEN 'dify'
        WHEN list_contains(own_tags, 'librechat') THEN 'librechat'
        WHEN name IN ('OpenAI-generation', 'OpenAI-embedding', 'OpenAI-completion') THEN 'openai_wrapper'
        WHEN mark[11] IS NOT NULL OR starts_with(name, 'litellm-') OR scope = 'litellm' THEN 'litellm'
        WHEN mark[10] IS NOT NULL THEN 'langchain'
        WHEN scope = 'ai' THEN 'vercel_ai'
        WHEN starts_with(scope, 'openinference.instrumentation.llama_index') THEN 'llamaindex'
        WHEN scope = 'openinference.instrumentation.haystack' THEN 'haystack'
        WHEN scope = 'pydantic-ai' THEN 'pydantic_ai'
    END AS own_source_app
FROM (SELECT *, coalesce(mark[1], mark[2]) AS scope FROM normalised)
