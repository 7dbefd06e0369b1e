-- One row per set of follow-up questions that Dify suggested after an answer. From 1.14 on Dify loses these rows on the
-- way. Their usage counts messages, questions and characters, never tokens.
-- materialized: view
-- app: dify
-- observation_id: Langfuse's observation.
-- trace_id: Langfuse's trace.
-- message_id: Message whose answer they follow.
-- workflow_run_id: Run of a chatflow.
-- questions: The questions. Needs content.
-- n_questions: How many.
-- model_provider: Provider of the model.
-- model_name: Model.
-- status: Status of the message: normal, error.
-- error: Error of the message.
-- started_at: Start.
-- latency_s [s]: Duration.
WITH parsed AS (
    SELECT
        *,
        from_json(metadata, '{"message_id": "VARCHAR", "workflow_run_id": "VARCHAR", "ls_provider": "VARCHAR",
            "ls_model_name": "VARCHAR", "status": "VARCHAR", "node_type": "VARCHAR", "dify.message.id": "VARCHAR",
            "dify.workflow.run_id": "VARCHAR", "model_provider": "VARCHAR", "model_name": "VARCHAR",
            "dify.span.status": "VARCHAR", "dify": {"message": {"id": "VARCHAR"}, "workflow": {"run_id": "VARCHAR"},
                "span": {"status": "VARCHAR"}}}') AS m,
        -- The answer is wrapped as the message of an assistant.
        CASE WHEN json_valid(output) THEN coalesce(json_extract_string(output, '$[0].content'),
            json_extract_string(output, '$.content'), output) ELSE output END AS text
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type = 'GENERATION' AND name = 'suggested_question'
),
-- The text of a Python list: items in either kind of quotes, with escapes; each becomes the text of a JSON string.
quoted AS (
    SELECT
        *,
        CASE WHEN trim(text) LIKE '[%]' THEN list_transform(
            regexp_extract_all(text, '''(?:[^''\\]|\\.)*''|"(?:[^"\\]|\\.)*"'),
            lambda item: '"' || replace(regexp_replace(replace(replace(replace(replace(
                item[2:-2],
                '\\', chr(1)), '\''', ''''), '\"', '"'), '"', '\"'), '\\x([0-9a-f]{2})', '\\u00\1', 'g'),
                chr(1), '\\') || '"'
        ) END AS items
    FROM parsed
),
read AS (
    SELECT
        *,
        list_transform(items, lambda item: CASE WHEN json_valid(item) THEN json_extract_string(item, '$')
            ELSE item[2:-2] END) AS questions
    FROM quoted
)
SELECT
    o.observation_id,
    o.trace_id,
    coalesce(m.message_id, m."dify.message.id", m.dify.message.id) AS message_id,
    nullif(coalesce(m.workflow_run_id, m."dify.workflow.run_id", m.dify.workflow.run_id), '') AS workflow_run_id,
    questions,
    coalesce(len(questions), CASE WHEN model IS NULL THEN usage['output'] END) AS n_questions,
    nullif(coalesce(m.ls_provider, m.model_provider), '') AS model_provider,
    nullif(coalesce(m.ls_model_name, m.model_name), '') AS model_name,
    coalesce(CASE coalesce(m."dify.span.status", m.dify.span.status) WHEN 'ok' THEN 'normal' END,
        m."dify.span.status", m.dify.span.status, m.status) AS status,
    o.status_message AS error,
    o.start_time AS started_at,
    o.latency_s,
    o.project_id,
    o.project_name,
    o.partition_hour,
    o.ingested_at,
    o.run_id,
    o.read_path
FROM read AS o
WHERE m.node_type IS NULL AND (coalesce(m."dify.message.id", m.dify.message.id) IS NOT NULL
    OR (m.message_id IS NOT NULL AND json_exists(o.metadata, '$.from_source')))
