-- One row per run of a Dify workflow or chatflow. Where several runs share a trace (the caller chose its id), the trace
-- itself tells only of the last one; the others are known by their own span, or by their nodes alone.
-- materialized: view
-- app: dify
-- workflow_run_id: Dify's id of the run.
-- trace_id: Langfuse's trace.
-- app_kind: workflow, or chatflow (a workflow that answers messages).
-- workflow_id: The workflow.
-- workflow_version: Its published version, or `draft`.
-- app_id: Dify app.
-- app_name: Its name.
-- workspace_name: Name of the Dify workspace.
-- tenant_id: Dify workspace.
-- conversation_id: Conversation of a chatflow.
-- message_id: Message that a chatflow run answers; NULL where it cannot be told.
-- workflow_app_log_id: Dify's log entry of a workflow app's run.
-- user_id: End user, or account at the console.
-- status: succeeded, failed, stopped, partial-succeeded, paused, running; of a run that only its nodes tell of, failed when they carry the run's error, else unknown.
-- error: Error of the run.
-- triggered_from: Where it was started, such as app-run or debugging.
-- elapsed_s [s]: Duration as Dify has it.
-- total_tokens [tokens]: Tokens as Dify counts them; summed from the nodes when only they tell of the run; NULL beyond 2^63.
-- n_nodes: Nodes that were executed.
-- n_failed_nodes: Those that failed, handled or not.
-- started_at: Start of the run's first observation.
-- ended_at: End of the run, else of its last node.
-- query: What the user asked in a chatflow. Needs content.
-- inputs: Inputs. Needs content.
-- outputs: Outputs. Needs content.
-- files: Files that came with the run.
-- external_trace_id: Trace id that the caller chose.
-- writer: Generation of Dify's integration: A0 (first release, ids in the names), A (up to 1.13), B (from 1.14), C1 and C2 (OpenTelemetry; told by resource and `dify.` keys). A and B look alike: B when the run names app or workspace or when a first-token time is there, but not beside rows that B loses (llm, moderation, suggested_question, dataset_retrieval, tool calls).
WITH told_by_rows AS (
    -- 1: the run's own span. 3: the trace, which tells of its last writer.
    SELECT
        1 AS rank, trace_id, observation_id, parent_observation_id, name, status_message, start_time, end_time,
        latency_s, version, tags, input, output, metadata,
        {'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path} AS audit
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type = 'SPAN'
        AND (lower(name) = 'workflow' OR starts_with(name, 'workflow_'))
    UNION ALL BY NAME
    SELECT 3 AS rank, trace_id, trace_name AS name, user_id AS trace_user_id, version, tags, input, output, metadata
    FROM traces
    WHERE source_app = 'dify' AND list_contains(tags, 'workflow')
),
parsed AS (
    SELECT
        *,
        from_json(metadata, '{
            "workflow_run_id": "VARCHAR", "workflow_id": "VARCHAR", "tenant_id": "VARCHAR", "app_id": "VARCHAR",
            "app_name": "VARCHAR", "workspace_name": "VARCHAR", "conversation_id": "VARCHAR", "message_id": "VARCHAR",
            "workflow_app_log_id": "VARCHAR", "user_id": "VARCHAR", "status": "VARCHAR", "triggered_from": "VARCHAR",
            "triggered_form": "VARCHAR", "elapsed_time": "VARCHAR", "total_tokens": "VARCHAR", "version": "VARCHAR",
            "file_list": "JSON", "external_trace_id": "VARCHAR", "node_type": "VARCHAR",
            "dify.workflow.run_id": "VARCHAR", "dify.workflow.id": "VARCHAR", "dify.workflow.version": "VARCHAR",
            "dify.tenant_id": "VARCHAR", "dify.app_id": "VARCHAR", "dify.conversation.id": "VARCHAR",
            "dify.message.id": "VARCHAR", "dify.user.id": "VARCHAR", "dify.span.status": "VARCHAR",
            "dify.span.type": "VARCHAR", "dify.external_trace_id": "VARCHAR", "dify.usage": "VARCHAR",
            "dify.node.execution_id": "VARCHAR",
            "dify": {"workflow": {"run_id": "VARCHAR", "id": "VARCHAR", "version": "VARCHAR"}, "tenant_id": "VARCHAR",
                "app_id": "VARCHAR", "conversation": {"id": "VARCHAR"}, "message": {"id": "VARCHAR"},
                "user": {"id": "VARCHAR"}, "span": {"status": "VARCHAR", "type": "VARCHAR"},
                "external_trace_id": "VARCHAR", "usage": "VARCHAR", "node": {"execution_id": "VARCHAR"}}}') AS m
    FROM told_by_rows
),
told AS (
    SELECT
        CASE WHEN rank = 1 AND m.workflow_run_id IS NULL
            AND coalesce(m."dify.span.type", m.dify.span.type, '') <> 'workflow' THEN 2 ELSE rank END AS rank,
        m.workflow_run_id IS NULL AS is_c2,
        coalesce(m.workflow_run_id, m."dify.workflow.run_id", m.dify.workflow.run_id) AS workflow_run_id,
        trace_id,
        coalesce(m.workflow_id, m."dify.workflow.id", m.dify.workflow.id) AS workflow_id,
        coalesce(m.version, m."dify.workflow.version", m.dify.workflow.version, version) AS workflow_version,
        coalesce(m.app_id, m."dify.app_id", m.dify.app_id) AS app_id,
        nullif(m.app_name, '') AS app_name,
        nullif(m.workspace_name, '') AS workspace_name,
        coalesce(m.tenant_id, m."dify.tenant_id", m.dify.tenant_id) AS tenant_id,
        nullif(coalesce(m.conversation_id, m."dify.conversation.id", m.dify.conversation.id), '') AS conversation_id,
        coalesce(CASE WHEN rank = 3 THEN m.message_id END, m."dify.message.id", m.dify.message.id) AS message_id,
        nullif(m.workflow_app_log_id, '') AS workflow_app_log_id,
        nullif(coalesce(m.user_id, m."dify.user.id", m.dify.user.id), '') AS user_id,
        trace_user_id,
        coalesce(m."dify.span.status", m.dify.span.status, m.status) AS status,
        status_message AS error,
        coalesce(m.triggered_from, m.triggered_form) AS triggered_from,
        -- No clock has measured 3,000 years.
        coalesce(CASE WHEN abs(TRY_CAST(m.elapsed_time AS DOUBLE)) < 1e11 THEN TRY_CAST(m.elapsed_time AS DOUBLE) END,
            latency_s) AS elapsed_s,
        coalesce(TRY_CAST(m.total_tokens AS BIGINT), CASE WHEN json_valid(coalesce(m."dify.usage", m.dify.usage))
            THEN TRY_CAST(json_extract_string(coalesce(m."dify.usage", m.dify.usage), '$.total_tokens') AS BIGINT)
            END) AS total_tokens,
        CASE WHEN json_type(m.file_list) <> 'NULL' THEN m.file_list END AS files,
        nullif(coalesce(m.external_trace_id, m."dify.external_trace_id", m.dify.external_trace_id), '')
            AS external_trace_id,
        start_time AS started_at,
        end_time AS ended_at,
        input,
        output,
        list_has_any(tags, ['message', 'advanced-chat']) AS is_chatflow,
        audit
    FROM parsed
    WHERE CASE
        WHEN m.workflow_run_id IS NULL THEN rank = 1
            AND coalesce(m."dify.workflow.run_id", m.dify.workflow.run_id) IS NOT NULL
            AND coalesce(m."dify.node.execution_id", m.dify.node.execution_id) IS NULL
        WHEN m.workflow_id IS NULL OR m.tenant_id IS NULL OR m.node_type IS NOT NULL THEN false
        WHEN rank = 3 THEN name IN ('workflow', 'message')
            OR starts_with(name, 'workflow_') OR starts_with(name, 'message_')
        -- C1: the first 16 hex digits of the id, and for workflow apps the root.
        ELSE parent_observation_id IS NULL AND name = 'workflow'
            OR coalesce(observation_id IN (m.workflow_run_id, m.workflow_app_log_id), false)
            OR observation_id = left(replace(m.workflow_run_id, '-', ''), 16)
    END
),
node_runs AS (
    SELECT
        workflow_run_id,
        trace_id,
        min(app_id) AS app_id,
        min(tenant_id) AS tenant_id,
        min(run_error) AS error,
        count(*) AS n_nodes,
        count(*) FILTER (status IN ('failed', 'exception')) AS n_failed_nodes,
        min(started_at) AS started_at,
        max(ended_at) AS ended_at,
        TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
        arg_min({'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path}, (started_at, node_execution_id))
            AS audit
    FROM dify_workflow_nodes
    GROUP BY workflow_run_id, trace_id
),
every AS (
    SELECT * FROM told
    UNION ALL BY NAME
    -- 4: the nodes alone.
    SELECT
        4 AS rank, workflow_run_id, trace_id, app_id, tenant_id, error, total_tokens, ended_at, audit,
        CASE WHEN error IS NOT NULL THEN 'failed' ELSE 'unknown' END AS status
    FROM node_runs
),
-- Per run what the best of them tells; arg_min passes over those that do not tell it.
runs AS (
    SELECT
        workflow_run_id,
        trace_id,
        min(rank) AS rank,
        arg_min(is_c2, rank) AS is_c2,
        arg_min(workflow_id, rank) AS workflow_id,
        arg_min(workflow_version, rank) AS workflow_version,
        arg_min(app_id, rank) AS app_id,
        arg_min(app_name, rank) AS app_name,
        arg_min(workspace_name, rank) AS workspace_name,
        arg_min(tenant_id, rank) AS tenant_id,
        arg_min(conversation_id, rank) AS conversation_id,
        arg_min(message_id, rank) AS message_id,
        arg_min(workflow_app_log_id, rank) AS workflow_app_log_id,
        arg_min(user_id, rank) AS user_id,
        arg_min(trace_user_id, rank) AS trace_user_id,
        arg_min(status, rank) AS status,
        arg_min(error, rank) AS error,
        arg_min(triggered_from, rank) AS triggered_from,
        arg_min(elapsed_s, rank) AS elapsed_s,
        arg_min(total_tokens, rank) AS total_tokens,
        arg_min(files, rank) AS files,
        arg_min(external_trace_id, rank) AS external_trace_id,
        arg_min(started_at, rank) AS started_at,
        arg_min(ended_at, rank) AS ended_at,
        arg_min(input, rank) AS input,
        arg_min(output, rank) AS output,
        arg_min(is_chatflow, rank) AS is_chatflow,
        arg_min(audit, rank) AS audit
    FROM every
    GROUP BY workflow_run_id, trace_id
),
marks AS (
    SELECT
        trace_id,
        bool_or(contains(metadata::VARCHAR, 'dify-langfuse-app-trace')) AS is_c1,
        bool_or(regexp_matches(name, '_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')) AS has_id_in_name,
        bool_or(completion_start_time IS NOT NULL) AS has_first_token
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic
    GROUP BY trace_id
),
-- What belongs to a message, and names it.
maybe_of_messages AS (
    SELECT
        trace_id,
        name,
        from_json(metadata, '{"workflow_run_id": "VARCHAR", "message_id": "VARCHAR", "node_type": "VARCHAR",
            "tool_config": "VARCHAR"}') AS m
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic
        AND (name IN ('llm', 'moderation', 'suggested_question', 'dataset_retrieval')
            OR contains(metadata::VARCHAR, '"tool_config"'))
),
of_messages AS (
    SELECT
        trace_id,
        m.message_id AS message_id,
        CASE WHEN name IN ('llm', 'suggested_question', 'dataset_retrieval') THEN m.workflow_run_id END AS of_run
    FROM maybe_of_messages
    WHERE m.message_id IS NOT NULL AND m.node_type IS NULL
        AND (m.tool_config IS NOT NULL OR name IN ('llm', 'moderation', 'suggested_question', 'dataset_retrieval'))
),
messages_of_traces AS (
    SELECT trace_id, CASE WHEN count(DISTINCT message_id) = 1 THEN min(message_id) END AS message_id
    FROM of_messages
    GROUP BY trace_id
),
messages_of_runs AS (
    SELECT trace_id, of_run, min(message_id) AS message_id
    FROM of_messages
    WHERE of_run IS NOT NULL
    GROUP BY trace_id, of_run
),
-- Each run once. A trace of more than two days has several rows: the nearest one.
placed AS (
    SELECT
        r.*,
        n.n_nodes AS n_nodes,
        n.n_failed_nodes AS n_failed_nodes,
        coalesce(least(r.started_at, n.started_at), t.started_at) AS first_start,
        t.trace_name AS trace_name,
        coalesce(r.is_chatflow, list_has_any(t.tags, ['message', 'advanced-chat']), false) AS of_chat,
        count(*) OVER (PARTITION BY r.trace_id, t.partition_hour) AS n_runs,
        CASE WHEN t.trace_id IS NOT NULL THEN {'project_id': t.project_id, 'project_name': t.project_name,
            'partition_hour': t.partition_hour, 'ingested_at': t.ingested_at, 'run_id': t.run_id,
            'read_path': t.read_path} END AS trace_audit
    FROM runs AS r
    LEFT JOIN node_runs AS n USING (workflow_run_id, trace_id)
    LEFT JOIN traces AS t ON t.trace_id = r.trace_id AND t.source_app = 'dify'
    QUALIFY row_number() OVER (
        PARTITION BY workflow_run_id
        ORDER BY
            r.rank, r.trace_id,
            abs(epoch(t.partition_hour) - epoch(coalesce(r.started_at, n.started_at, t.started_at))) NULLS LAST
    ) = 1
),
identified AS (
    SELECT
        p.*,
        k.is_c1 AS is_c1,
        coalesce(k.has_id_in_name, false) OR starts_with(trace_name, 'workflow_') OR starts_with(trace_name, 'message_')
            AS has_id_in_name,
        w.trace_id IS NOT NULL AS has_what_b_loses,
        k.has_first_token AS has_first_token,
        replace(p.trace_id, '-', '') AS plain_trace_id,
        coalesce(p.message_id, o.message_id, CASE WHEN n_runs = 1 THEN w.message_id END) AS known_message_id
    FROM placed AS p
    LEFT JOIN marks AS k ON k.trace_id = p.trace_id
    LEFT JOIN messages_of_traces AS w ON w.trace_id = p.trace_id
    LEFT JOIN messages_of_runs AS o ON o.trace_id = p.trace_id AND o.of_run = p.workflow_run_id
),
told_apart AS (
    SELECT
        *,
        coalesce(external_trace_id, CASE
            WHEN is_c2 THEN NULL
            WHEN plain_trace_id IN (replace(workflow_run_id, '-', ''),
                coalesce(replace(workflow_app_log_id, '-', ''), ''), coalesce(replace(known_message_id, '-', ''), ''))
                THEN NULL
            WHEN NOT of_chat OR known_message_id IS NOT NULL OR n_runs > 1
                OR NOT regexp_matches(plain_trace_id, '^[0-9a-f]{32}$') THEN trace_id
        END) AS outer_trace_id,
        CASE WHEN json_valid(input) THEN json(input) END AS inputs
    FROM identified
)
SELECT
    workflow_run_id,
    trace_id,
    CASE WHEN of_chat THEN 'chatflow' ELSE 'workflow' END AS app_kind,
    workflow_id,
    workflow_version,
    app_id,
    app_name,
    workspace_name,
    tenant_id,
    conversation_id,
    CASE WHEN of_chat THEN coalesce(known_message_id, CASE WHEN outer_trace_id IS NULL THEN
        regexp_replace(plain_trace_id, '^(.{8})(.{4})(.{4})(.{4})(.{12})$', '\1-\2-\3-\4-\5') END) END AS message_id,
    workflow_app_log_id,
    -- The first writer put the tenant into the user field.
    coalesce(nullif(trace_user_id, tenant_id), user_id) AS user_id,
    CASE status
        WHEN 'ok' THEN 'succeeded'
        WHEN 'error' THEN 'failed'
        WHEN 'handled_error' THEN 'partial-succeeded'
        WHEN 'cancelled' THEN 'stopped'
        WHEN 'incomplete' THEN 'running'
        ELSE coalesce(status, 'unknown')
    END AS status,
    error,
    triggered_from,
    elapsed_s,
    total_tokens,
    coalesce(n_nodes, 0) AS n_nodes,
    coalesce(n_failed_nodes, 0) AS n_failed_nodes,
    first_start AS started_at,
    ended_at,
    json_extract_string(inputs, '$."sys.query"') AS query,
    inputs,
    CASE WHEN json_valid(output) THEN json(output) END AS outputs,
    files,
    outer_trace_id AS external_trace_id,
    CASE
        WHEN is_c2 THEN 'C2'
        WHEN is_c1 THEN 'C1'
        WHEN has_id_in_name THEN 'A0'
        WHEN has_what_b_loses THEN 'A'
        WHEN app_name IS NOT NULL OR workspace_name IS NOT NULL OR has_first_token THEN 'B'
        ELSE 'A'
    END AS writer,
    coalesce(trace_audit.project_id, audit.project_id) AS project_id,
    coalesce(trace_audit.project_name, audit.project_name) AS project_name,
    coalesce(trace_audit.partition_hour, audit.partition_hour) AS partition_hour,
    coalesce(trace_audit.ingested_at, audit.ingested_at) AS ingested_at,
    coalesce(trace_audit.run_id, audit.run_id) AS run_id,
    coalesce(trace_audit.read_path, audit.read_path) AS read_path
FROM told_apart
