-- One row per tool that a Dify agent called. From 1.14 on Dify loses these rows on the way; tools of workflows and
-- chatflows are nodes of type tool.
-- materialized: view
-- app: dify
-- observation_id: Langfuse's observation.
-- trace_id: Langfuse's trace.
-- message_id: Message that the agent answered.
-- tool_name: The tool.
-- provider: Its provider.
-- provider_type: builtin, api, workflow, mcp ...
-- inputs: Arguments. Needs content.
-- outputs: Result, as text. Needs content.
-- error: Error of the call.
-- time_cost_s [s]: Duration as Dify has it.
-- started_at: Start.
-- ended_at: End.
-- is_error: The call failed.
-- workflow_run_id: Run that the agent is part of.
WITH parsed AS (
    SELECT
        *,
        from_json(metadata, '{"message_id": "VARCHAR", "tool_name": "VARCHAR", "tool_config": "VARCHAR",
            "tool_inputs": "JSON", "time_cost": "VARCHAR", "error": "VARCHAR", "workflow_run_id": "VARCHAR",
            "dify.message.id": "VARCHAR", "dify.workflow.run_id": "VARCHAR", "dify.span.type": "VARCHAR",
            "dify.node.execution_id": "VARCHAR", "operation_type": "VARCHAR", "tool_provider": "VARCHAR",
            "tool_provider_type": "VARCHAR", "node_type": "VARCHAR",
            "dify": {"message": {"id": "VARCHAR"}, "workflow": {"run_id": "VARCHAR"}, "span": {"type": "VARCHAR"},
                "node": {"execution_id": "VARCHAR"}}}') AS m
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type IN ('SPAN', 'TOOL')
        -- All that follows has the word; not reading the others is several times faster.
        AND contains(metadata::VARCHAR, 'tool')
),
calls AS (
    SELECT
        *,
        CASE WHEN json_valid(m.tool_config) THEN from_json(m.tool_config, '{"tool_provider": "VARCHAR",
            "tool_provider_type": "VARCHAR"}') END AS config,
        coalesce(nullif(m.error, ''), CASE WHEN level = 'ERROR' THEN status_message END) AS said,
        m.tool_name IS NULL AS is_c2
    FROM parsed
    WHERE m.node_type IS NULL AND (
        (name = m.tool_name AND json_exists(metadata, '$.tool_config') AND json_exists(metadata, '$.time_cost'))
        OR (coalesce(m."dify.span.type", m.dify.span.type) = 'tool'
            AND coalesce(m."dify.node.execution_id", m.dify.node.execution_id) IS NULL
            AND name NOT IN ('moderation', 'dataset_retrieval', 'suggested_question', 'generate_name')))
),
-- The v2 path fills a run id that a row lacks from its trace; so that both paths agree, it is done here as well.
runs_of_traces AS (
    SELECT trace_id, max(json_extract_string(metadata, '$.workflow_run_id')) AS workflow_run_id
    FROM traces
    WHERE source_app = 'dify' AND trace_id IN (SELECT trace_id FROM calls)
    GROUP BY trace_id
)
SELECT
    o.observation_id,
    o.trace_id,
    coalesce(m.message_id, m."dify.message.id", m.dify.message.id) AS message_id,
    coalesce(m.tool_name, o.name) AS tool_name,
    nullif(coalesce(config.tool_provider, m.tool_provider), '') AS provider,
    nullif(coalesce(config.tool_provider_type, m.tool_provider_type), '') AS provider_type,
    CASE WHEN json_valid(o.input) THEN json(o.input) WHEN o.input IS NOT NULL THEN
        CASE WHEN json_type(m.tool_inputs) <> 'NULL' THEN m.tool_inputs END END AS inputs,
    nullif(CASE WHEN json_valid(o.output) THEN coalesce(json_extract_string(o.output, '$[0].content'),
        json(o.output)::VARCHAR) ELSE o.output END, '') AS outputs,
    o.said AS error,
    coalesce(CASE WHEN abs(TRY_CAST(m.time_cost AS DOUBLE)) < 1e11 THEN TRY_CAST(m.time_cost AS DOUBLE) END,
        CASE WHEN is_c2 THEN o.latency_s END) AS time_cost_s,
    o.start_time AS started_at,
    o.end_time AS ended_at,
    o.said IS NOT NULL OR o.level = 'ERROR' AS is_error,
    nullif(coalesce(m.workflow_run_id, m."dify.workflow.run_id", m.dify.workflow.run_id, r.workflow_run_id), '')
        AS workflow_run_id,
    o.project_id,
    o.project_name,
    o.partition_hour,
    o.ingested_at,
    o.run_id,
    o.read_path
FROM calls AS o
LEFT JOIN runs_of_traces AS r ON r.trace_id = o.trace_id AND NOT o.is_c2
