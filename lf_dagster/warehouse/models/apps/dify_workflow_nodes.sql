-- One row per executed node of a Dify workflow or chatflow run. Nested iteration and loop children stand beside their
-- parents; iteration_id and loop_id tell where they belong.
-- materialized: view
-- app: dify
-- node_execution_id: Dify's id of the execution; once per trace.
-- observation_id: Langfuse's observation.
-- workflow_run_id: The run that it belongs to.
-- trace_id: Langfuse's trace.
-- app_id: Dify app.
-- tenant_id: Dify workspace.
-- node_title: Title of the node in the workflow editor.
-- node_type: start, llm, knowledge-retrieval, tool, code, if-else, iteration ... as Dify names it.
-- status: succeeded, failed, exception (failed and handled), retry, stopped, paused, running.
-- error: The run's error, where the node did not succeed.
-- run_error: The run's error, which Dify writes on every node of the run.
-- started_at: Start of the node.
-- ended_at: Its end.
-- elapsed_s [s]: End minus start.
-- model_provider: Provider of the model that the node used.
-- model_name: Model that the node used.
-- prompt_tokens [tokens]: Prompt tokens. Of a completion model they are only in the output: needs content; NULL beyond 2^63.
-- completion_tokens [tokens]: Completion tokens; as prompt_tokens; NULL beyond 2^63.
-- total_tokens [tokens]: Tokens as Dify counts them; NULL beyond 2^63.
-- total_price: Price as Dify counts it, in `currency`.
-- currency: Currency of total_price.
-- ttft_s [s]: Time to the first token.
-- iteration_id: Iteration node around it.
-- iteration_index: Which round of the iteration.
-- loop_id: Loop node around it.
-- loop_index: Which round of the loop.
-- parallel_id: Parallel branch.
-- parent_parallel_id: Parallel branch around that one.
-- inputs: Inputs; JSON text or text. Needs content.
-- outputs: Outputs; JSON text or text. Needs content.
-- observation_type: GENERATION for nodes that asked a chat model, else SPAN.
WITH parsed AS (
    SELECT
        * EXCLUDE (metadata),
        from_json(metadata, '{
            "node_execution_id": "VARCHAR", "workflow_run_id": "VARCHAR", "app_id": "VARCHAR", "tenant_id": "VARCHAR",
            "node_name": "VARCHAR", "node_type": "VARCHAR", "status": "VARCHAR", "model_provider": "VARCHAR",
            "model_name": "VARCHAR", "total_tokens": "VARCHAR", "total_price": "VARCHAR", "currency": "VARCHAR",
            "iteration_id": "VARCHAR", "iteration_index": "VARCHAR", "loop_id": "VARCHAR", "loop_index": "VARCHAR",
            "parallel_id": "VARCHAR", "parent_parallel_id": "VARCHAR", "dify.node.execution_id": "VARCHAR",
            "dify.workflow.run_id": "VARCHAR", "dify.app_id": "VARCHAR", "dify.tenant_id": "VARCHAR",
            "dify.span.status": "VARCHAR", "dify.usage": "VARCHAR",
            "dify": {"node": {"execution_id": "VARCHAR"}, "workflow": {"run_id": "VARCHAR"}, "app_id": "VARCHAR",
                "tenant_id": "VARCHAR", "span": {"status": "VARCHAR"}, "usage": "VARCHAR"}}') AS m
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type IN ('SPAN', 'GENERATION')
),
named AS (
    SELECT
        *,
        coalesce(m."dify.node.execution_id", m.dify.node.execution_id) AS c2_execution_id,
        coalesce(m.node_execution_id, c2_execution_id) AS execution_id,
        coalesce(m.workflow_run_id, m."dify.workflow.run_id", m.dify.workflow.run_id) AS run_id_of_dify,
        coalesce(m."dify.span.status", m.dify.span.status) AS span_status,
        coalesce(m."dify.usage", m.dify.usage) AS span_usage
    FROM parsed
),
nodes AS (
    SELECT
        *,
        -- The usage of a model without generation: in the outputs, or in C2's own key.
        CASE
            WHEN json_valid(span_usage) THEN from_json(span_usage, '{"prompt_tokens": "VARCHAR",
                "completion_tokens": "VARCHAR", "total_tokens": "VARCHAR", "total_price": "VARCHAR",
                "currency": "VARCHAR"}')
            WHEN json_valid(output) THEN from_json(json_extract(output, '$.usage'), '{"prompt_tokens": "VARCHAR",
                "completion_tokens": "VARCHAR", "total_tokens": "VARCHAR", "total_price": "VARCHAR",
                "currency": "VARCHAR"}')
        END AS told,
        -- Rows of the v2 path also carry the run's total_tokens: it is the node's own only beside a price.
        m.total_price IS NOT NULL OR m.currency IS NOT NULL AS is_priced
    FROM named
    WHERE run_id_of_dify IS NOT NULL AND (
        c2_execution_id IS NOT NULL
        OR (m.node_execution_id IS NOT NULL AND m.node_type IS NOT NULL AND m.node_name IS NOT NULL AND (
            observation_id = m.node_execution_id
            OR observation_id = left(replace(m.node_execution_id, '-', ''), 16)
            OR ends_with(name, '_' || m.node_execution_id)))
    )
),
counted AS (
    SELECT
        *,
        coalesce(usage['input'], TRY_CAST(told.prompt_tokens AS BIGINT)) AS prompt_tokens,
        coalesce(usage['output'], TRY_CAST(told.completion_tokens AS BIGINT)) AS completion_tokens,
        coalesce(CASE WHEN is_priced THEN TRY_CAST(m.total_tokens AS BIGINT) END, usage['total'],
            TRY_CAST(told.total_tokens AS BIGINT)) AS total_tokens
    FROM nodes
)
SELECT
    execution_id AS node_execution_id,
    run_id_of_dify AS workflow_run_id,
    trace_id,
    observation_id,
    coalesce(m.app_id, m."dify.app_id", m.dify.app_id) AS app_id,
    coalesce(m.tenant_id, m."dify.tenant_id", m.dify.tenant_id) AS tenant_id,
    coalesce(m.node_name, name) AS node_title,
    coalesce(m.node_type, 'unknown') AS node_type,
    coalesce(
        CASE span_status
            WHEN 'ok' THEN 'succeeded'
            WHEN 'error' THEN 'failed'
            WHEN 'handled_error' THEN 'exception'
            WHEN 'cancelled' THEN 'stopped'
            WHEN 'incomplete' THEN 'running'
            ELSE span_status
        END,
        m.status, CASE WHEN level = 'ERROR' THEN 'failed' ELSE 'unknown' END) AS status,
    CASE WHEN status <> 'succeeded' THEN status_message END AS error,
    status_message AS run_error,
    start_time AS started_at,
    end_time AS ended_at,
    latency_s AS elapsed_s,
    nullif(m.model_provider, '') AS model_provider,
    nullif(m.model_name, '') AS model_name,
    -- The first writer sent a model's node twice, as span and as generation: the usage is on the latter.
    max(prompt_tokens) OVER same_node AS prompt_tokens,
    max(completion_tokens) OVER same_node AS completion_tokens,
    max(total_tokens) OVER same_node AS total_tokens,
    coalesce(TRY_CAST(m.total_price AS DECIMAL(18, 12)), TRY_CAST(told.total_price AS DECIMAL(18, 12))) AS total_price,
    nullif(coalesce(m.currency, told.currency), '') AS currency,
    max(ttft_s) OVER same_node AS ttft_s,
    nullif(m.iteration_id, '') AS iteration_id,
    TRY_CAST(m.iteration_index AS BIGINT) AS iteration_index,
    nullif(m.loop_id, '') AS loop_id,
    TRY_CAST(m.loop_index AS BIGINT) AS loop_index,
    nullif(m.parallel_id, '') AS parallel_id,
    nullif(m.parent_parallel_id, '') AS parent_parallel_id,
    CASE WHEN json_valid(input) THEN json(input)::VARCHAR ELSE input END AS inputs,
    CASE WHEN json_valid(output) THEN json(output)::VARCHAR ELSE output END AS outputs,
    min(type) OVER same_node AS observation_type,
    project_id,
    project_name,
    partition_hour,
    ingested_at,
    run_id,
    read_path
FROM counted
WINDOW same_node AS (PARTITION BY partition_hour, trace_id, execution_id)
QUALIFY row_number() OVER (
    PARTITION BY partition_hour, trace_id, execution_id
    ORDER BY observation_id = execution_id DESC, type DESC, observation_id
) = 1
