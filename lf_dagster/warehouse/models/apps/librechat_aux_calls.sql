-- One row per model call that LibreChat makes beside the answers: titles of conversations, labels of steps, memory.
-- materialized: view
-- app: librechat
-- observation_id: The call; unique within its trace.
-- trace_id: Its trace: the turn's for labels within a turn, else one of its own.
-- message_id: The turn that it belongs to, see librechat_messages.
-- kind: title, step_label, reasoning_label, run_summary or memory.
-- model: Model that answered.
-- input_tokens [tokens]: Prompt tokens, cached ones too; NULL beyond 2^63.
-- output_tokens [tokens]: Answer tokens; NULL beyond 2^63.
-- total_cost [USD]: Cost of the call.
-- output: The title or label; NULL unless content is read.
-- started_at: Start of the call.
WITH calls AS (
    SELECT
        *,
        json_extract_string(metadata, ['$."librechat.sdk.operation"', '$.responseId', '$.sourceRunId']) AS k,
        map_entries(usage) AS used,
        TRY_CAST(output AS JSON) AS answer
    FROM observations
    WHERE source_app = 'librechat' AND type = 'GENERATION'
),
runs AS (
    SELECT
        trace_id,
        min(CASE
            WHEN starts_with(message, 'title-') OR list_contains(tags, 'title') OR trace_name = 'TitleRun' THEN 'title'
            WHEN trace_name = 'MemoryRun' THEN 'memory'
        END) AS kind,
        min(regexp_replace(message, '^title-', '')) AS message_id
    FROM (
        SELECT trace_id, tags, trace_name, nullif(json_extract_string(metadata, '$.messageId'), '') AS message
        FROM traces
        WHERE source_app = 'librechat'
    )
    GROUP BY trace_id
),
named AS (
    SELECT
        c.*,
        coalesce(
            CASE c.k[1]
                WHEN 'StepLabel' THEN 'step_label'
                WHEN 'ReasoningLabel' THEN 'reasoning_label'
                WHEN 'MultiStepLabelGeneration' THEN 'run_summary'
            END,
            CASE WHEN c.k[1] IS NULL THEN r.kind END
        ) AS kind,
        coalesce(nullif(c.k[2], ''), nullif(c.k[3], ''), r.message_id) AS message_id
    FROM calls AS c
    LEFT JOIN runs AS r USING (trace_id)
)
SELECT
    observation_id,
    trace_id,
    message_id,
    kind,
    model,
    TRY_CAST(list_sum(list_transform(list_filter(used, lambda part: starts_with(lower(part.key), 'input')),
        lambda part: part.value)) AS BIGINT) AS input_tokens,
    TRY_CAST(list_sum(list_transform(list_filter(used, lambda part: starts_with(lower(part.key), 'output')),
        lambda part: part.value)) AS BIGINT) AS output_tokens,
    total_cost,
    nullif(coalesce(answer ->> '$.content', answer ->> '$.kwargs.content', output), '') AS output,
    start_time AS started_at,
    project_id,
    project_name,
    partition_hour,
    ingested_at,
    run_id,
    read_path
FROM named
WHERE kind IS NOT NULL
