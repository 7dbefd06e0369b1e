-- One row per message of a Dify app and the answer to it: chats, agents, completions, and each run of a chatflow.
-- materialized: view
-- app: dify
-- message_id: Dify's id of the message; of a chatflow whose message cannot be told (the caller chose the trace id), the id of its run.
-- trace_id: Langfuse's trace.
-- app_mode: chat, agent-chat, completion or chatflow.
-- conversation_id: The conversation.
-- workflow_run_id: Run that answered; chatflows only.
-- app_id: Dify app.
-- app_name: Its name.
-- user_id: End user's id as the application sent it, else the account.
-- end_user_id: Dify's own id of the end user.
-- account_id: Dify account, for messages from the console.
-- from_source: api or console.
-- agent_based: An agent answered.
-- model_provider: Provider of the model; NULL for chatflows, whose nodes have it.
-- model_name: Model; as model_provider.
-- status: normal, error ...; for chatflows the status of the run.
-- error: Error. Where the generation is missing: needs content.
-- prompt_tokens [tokens]: Prompt tokens; for chatflows the sum of the nodes. Where the generation is missing: needs content; NULL beyond 2^63.
-- answer_tokens [tokens]: Answer tokens; as prompt_tokens; NULL beyond 2^63.
-- total_tokens [tokens]: Tokens as Dify counts them; as prompt_tokens; NULL beyond 2^63.
-- total_price: Price as Dify counts it; the currency is not sent for messages of other apps than chatflows.
-- latency_s [s]: Time of the answer. Where the generation is missing: needs content.
-- ttft_s [s]: Time to the first token.
-- started_at: Start. Where the generation is missing and content is not read: when Dify exported the trace, seconds later.
-- query: What the user wrote. Needs content.
-- answer: The answer. Needs content.
-- n_files: Files that came with it. Needs content, but for chatflows.
-- generation_missing: The message's generation was lost on the way, as from Dify 1.14 on.
WITH message_rows AS (
    -- 1: the message's generation. 2: the trace, which tells of its last writer. 3: the root of C2, which has no
    -- generation.
    SELECT
        1 AS rank, trace_id, name, tags, NULL::VARCHAR AS trace_user_id, start_time, latency_s, ttft_s, usage,
        total_cost, status_message, input, output, metadata,
        {'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path} AS audit
    FROM observations
    WHERE source_app = 'dify' AND type = 'GENERATION' AND (name = 'llm' OR starts_with(name, 'generation_'))
    UNION ALL BY NAME
    SELECT
        2 AS rank, trace_id, trace_name AS name, tags, user_id AS trace_user_id, started_at AS trace_start, input,
        output, metadata,
        {'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path} AS audit
    FROM traces
    WHERE source_app = 'dify' AND (trace_name = 'message' OR starts_with(trace_name, 'message_'))
        AND list_contains(tags, 'message')
    UNION ALL BY NAME
    SELECT
        3 AS rank, trace_id, name, tags, user_id AS trace_user_id, start_time, latency_s, ttft_s, status_message,
        input, output, metadata,
        {'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path} AS audit
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type = 'SPAN' AND name = 'message'
        AND parent_observation_id IS NULL
),
parsed AS (
    SELECT
        *,
        from_json(metadata, '{
            "message_id": "VARCHAR", "conversation_id": "VARCHAR", "app_id": "VARCHAR", "app_name": "VARCHAR",
            "user_id": "VARCHAR", "from_end_user_id": "VARCHAR", "from_account_id": "VARCHAR",
            "from_source": "VARCHAR", "agent_based": "VARCHAR", "ls_provider": "VARCHAR", "ls_model_name": "VARCHAR",
            "status": "VARCHAR", "node_type": "VARCHAR", "app_mode": "VARCHAR", "model_provider": "VARCHAR",
            "model_name": "VARCHAR", "dify.message.id": "VARCHAR", "dify.conversation.id": "VARCHAR",
            "dify.app_id": "VARCHAR", "dify.user.id": "VARCHAR", "dify.span.status": "VARCHAR",
            "dify.usage": "VARCHAR",
            "dify": {"message": {"id": "VARCHAR"}, "conversation": {"id": "VARCHAR"}, "app_id": "VARCHAR",
                "user": {"id": "VARCHAR"}, "span": {"status": "VARCHAR"}, "usage": "VARCHAR"}}') AS m,
        -- A trace has the whole message as its input, a generation the prompts.
        CASE WHEN json_valid(input) THEN from_json(input, '{"message": "VARCHAR", "files": "JSON",
            "message_tokens": "VARCHAR", "answer_tokens": "VARCHAR", "total_tokens": "VARCHAR", "error": "VARCHAR",
            "provider_response_latency": "VARCHAR", "created_at": "VARCHAR", "sys.query": "VARCHAR"}') END AS i
    FROM message_rows
),
named AS (
    SELECT
        *,
        coalesce(m."dify.message.id", m.dify.message.id) AS c2_message_id,
        coalesce(m."dify.usage", m.dify.usage) AS c2_usage,
        coalesce(i.message, CASE WHEN json_valid(input) THEN input END) AS prompts
    FROM parsed
),
messages AS (
    SELECT
        *,
        coalesce(m.message_id, c2_message_id) AS message_id,
        coalesce(m.app_mode, CASE
            WHEN list_has_any(tags, ['workflow', 'advanced-chat']) THEN 'chatflow'
            WHEN list_contains(tags, 'agent-chat') AND (m.agent_based = 'true' OR NOT list_contains(tags, 'chat'))
                THEN 'agent-chat'
            WHEN list_contains(tags, 'chat') THEN 'chat'
            WHEN list_contains(tags, 'completion') THEN 'completion'
            WHEN m.agent_based = 'true' THEN 'agent-chat'
            ELSE 'chat'
        END) AS mode,
        CASE WHEN json_valid(c2_usage) THEN from_json(c2_usage, '{"prompt_tokens": "VARCHAR",
            "completion_tokens": "VARCHAR", "total_tokens": "VARCHAR", "total_price": "VARCHAR"}') END AS used,
        CASE WHEN json_valid(prompts) THEN list_filter(
            from_json(prompts, '[{"role": "VARCHAR", "text": "VARCHAR", "content": "VARCHAR"}]'),
            lambda prompt: prompt.role = 'user')[-1] END AS asked,
        nullif(CASE WHEN json_valid(output) THEN coalesce(json_extract_string(output, '$[0].content'),
            json_extract_string(output, '$.content'), output) ELSE output END, '') AS answer,
        -- Dify's times are UTC without saying so; one far from the trace's time says something else.
        TRY_CAST(i.created_at || 'Z' AS TIMESTAMPTZ) AS created_at
    FROM named
    WHERE m.node_type IS NULL AND CASE
        WHEN rank = 3 THEN c2_message_id IS NOT NULL
        ELSE m.message_id IS NOT NULL AND json_exists(metadata, '$.from_source')
            AND json_exists(metadata, '$.agent_based')
    END
),
-- What is known of each message, the generation first; arg_min passes over rows that do not tell it.
told AS (
    SELECT
        message_id,
        trace_id,
        min(rank) AS rank,
        arg_min(mode, rank) AS mode,
        arg_min(nullif(coalesce(m.conversation_id, m."dify.conversation.id", m.dify.conversation.id), ''), rank)
            AS conversation_id,
        arg_min(coalesce(m.app_id, m."dify.app_id", m.dify.app_id), rank) AS app_id,
        arg_min(nullif(m.app_name, ''), rank) AS app_name,
        coalesce(arg_min(trace_user_id, rank), arg_min(nullif(coalesce(m.user_id, m."dify.user.id", m.dify.user.id),
            ''), rank)) AS user_id,
        arg_min(nullif(m.from_end_user_id, ''), rank) AS end_user_id,
        arg_min(nullif(m.from_account_id, ''), rank) AS account_id,
        arg_min(nullif(m.from_source, ''), rank) AS from_source,
        arg_min(TRY_CAST(m.agent_based AS BOOLEAN), rank) AS agent_based,
        arg_min(nullif(coalesce(m.ls_provider, m.model_provider), ''), rank) AS model_provider,
        arg_min(nullif(coalesce(m.ls_model_name, m.model_name), ''), rank) AS model_name,
        arg_min(CASE coalesce(m."dify.span.status", m.dify.span.status) WHEN 'ok' THEN 'normal'
            ELSE coalesce(m."dify.span.status", m.dify.span.status, m.status) END, rank) AS status,
        arg_min(coalesce(status_message, nullif(i.error, '')), rank) AS error,
        arg_min(coalesce(usage['input'], TRY_CAST(coalesce(i.message_tokens, used.prompt_tokens) AS BIGINT)), rank)
            AS prompt_tokens,
        arg_min(coalesce(usage['output'], TRY_CAST(coalesce(i.answer_tokens, used.completion_tokens) AS BIGINT)), rank)
            AS answer_tokens,
        arg_min(coalesce(usage['total'], TRY_CAST(coalesce(i.total_tokens, used.total_tokens) AS BIGINT)), rank)
            AS total_tokens,
        arg_min(coalesce(total_cost, TRY_CAST(used.total_price AS DECIMAL(18, 12))), rank) AS total_price,
        arg_min(coalesce(latency_s, CASE WHEN abs(TRY_CAST(i.provider_response_latency AS DOUBLE)) < 1e11
            THEN TRY_CAST(i.provider_response_latency AS DOUBLE) END), rank) AS latency_s,
        arg_min(ttft_s, rank) AS ttft_s,
        coalesce(arg_min(start_time, rank), arg_min(CASE
            WHEN epoch(trace_start) - epoch(created_at) BETWEEN 0 AND 86400 THEN created_at
        END, rank), min(trace_start)) AS started_at,
        arg_min(nullif(coalesce(asked.content, asked.text, i."sys.query",
            CASE WHEN NOT json_valid(prompts) THEN prompts END), ''), rank) AS query,
        arg_min(answer, rank) AS answer,
        arg_min(CASE WHEN json_type(i.files) = 'ARRAY' THEN json_array_length(i.files)::BIGINT END, rank) AS n_files,
        arg_max(audit, rank) AS audit
    FROM messages
    GROUP BY message_id, trace_id
    QUALIFY row_number() OVER (PARTITION BY message_id ORDER BY min(rank), trace_id) = 1
),
node_sums AS (
    SELECT
        workflow_run_id,
        trace_id,
        TRY_CAST(sum(prompt_tokens) AS BIGINT) AS prompt_tokens,
        TRY_CAST(sum(completion_tokens) AS BIGINT) AS answer_tokens,
        TRY_CAST(sum(total_price) AS DECIMAL(18, 12)) AS total_price
    FROM dify_workflow_nodes
    GROUP BY workflow_run_id, trace_id
)
SELECT
    message_id,
    trace_id,
    mode AS app_mode,
    conversation_id,
    NULL::VARCHAR AS workflow_run_id,
    app_id,
    app_name,
    user_id,
    end_user_id,
    account_id,
    from_source,
    agent_based,
    model_provider,
    model_name,
    status,
    error,
    prompt_tokens,
    answer_tokens,
    total_tokens,
    total_price,
    latency_s,
    ttft_s,
    started_at,
    query,
    answer,
    n_files,
    rank = 2 AS generation_missing,
    audit.project_id AS project_id,
    audit.project_name AS project_name,
    audit.partition_hour AS partition_hour,
    audit.ingested_at AS ingested_at,
    audit.run_id AS run_id,
    audit.read_path AS read_path
FROM told
WHERE mode IN ('chat', 'agent-chat', 'completion')
UNION ALL BY NAME
SELECT
    coalesce(r.message_id, r.workflow_run_id) AS message_id,
    r.trace_id,
    'chatflow' AS app_mode,
    r.conversation_id,
    r.workflow_run_id,
    r.app_id,
    r.app_name,
    r.user_id,
    t.end_user_id,
    t.account_id,
    t.from_source,
    t.agent_based,
    t.model_provider,
    t.model_name,
    r.status,
    r.error,
    n.prompt_tokens,
    n.answer_tokens,
    r.total_tokens,
    n.total_price,
    r.elapsed_s AS latency_s,
    t.ttft_s,
    r.started_at,
    r.query,
    json_extract_string(r.outputs, '$.answer') AS answer,
    CASE WHEN json_type(r.files) = 'ARRAY' THEN json_array_length(r.files)::BIGINT END AS n_files,
    false AS generation_missing,
    r.project_id,
    r.project_name,
    r.partition_hour,
    r.ingested_at,
    r.run_id,
    r.read_path
FROM dify_workflow_runs AS r
LEFT JOIN told AS t ON t.message_id = r.message_id AND t.trace_id = r.trace_id
LEFT JOIN node_sums AS n ON n.workflow_run_id = r.workflow_run_id AND n.trace_id = r.trace_id
WHERE r.app_kind = 'chatflow'
QUALIFY row_number() OVER (
    PARTITION BY coalesce(r.message_id, r.workflow_run_id) ORDER BY r.started_at, r.workflow_run_id
) = 1
