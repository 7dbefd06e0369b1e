-- One row per answer that LibreChat gave (a turn of a conversation): a run of an agent, or of a model that LibreChat runs
-- as one. Runs that name a conversation or keep memory, and calls that label steps, are in librechat_aux_calls.
-- materialized: view
-- app: librechat
-- message_id: Id of the response message; a regenerated answer has its own.
-- trace_id: Its trace; the first one where a run that was resumed has several.
-- conversation_id: The conversation (LangGraph's thread).
-- parent_message_id: The message that it answers; all zeros for the first turn.
-- user_id: User, as LibreChat was told to name users.
-- tenant_id: Tenant, on deployments that have several.
-- agent_id: Agent that the run started with; of a model that is no saved agent `<endpoint>__<model>___<label>`.
-- agent_name: Its name.
-- is_ephemeral_agent: The agent is a plain model, not a saved agent.
-- endpoint: LibreChat's endpoint (agents, openAI, anthropic ...) of the first model call; since September 2026.
-- provider: Provider of the first model call.
-- model_requested: Model asked for in the first model call.
-- model: Model that answered it.
-- question: Text of the user; NULL unless content is read.
-- answer: Text of the answer; NULL unless content is read.
-- n_rounds: Rounds: how often an agent asked its model.
-- n_tool_calls: Calls of tools.
-- n_agents: Agents that took part.
-- input_tokens [tokens]: Prompt tokens, cached ones too, without calls that label steps; NULL beyond 2^63.
-- output_tokens [tokens]: Answer tokens, reasoning too; NULL beyond 2^63.
-- cache_read_tokens [tokens]: Prompt tokens that came out of a cache; NULL beyond 2^63.
-- total_cost [USD]: Cost of its model calls, without those that label steps.
-- status: ok, error (the run failed; a tool that failed is no such), unfinished (no end yet) or unknown (no root was read).
-- error: Why the run failed.
-- started_at: Start of the run.
-- ended_at: End of the run, of the last one when it was resumed.
-- duration_s [s]: ended_at minus started_at.
-- ttft_s [s]: From started_at to the first token of a model.
-- feedback: Thumb of the user: true up, false down, NULL none or taken back.
-- feedback_tag: Reason that the user picked.
-- resumed: Was interrupted (a human in the loop) and went on later.
-- id_scheme: sha256 (the trace id is made from the message id, since June 2026) or random.
WITH turns AS (
    SELECT
        trace_id, started_at, user_id,
        project_id, project_name, partition_hour, ingested_at, run_id, read_path,
        nullif(k[1], '') AS message_id,
        coalesce(nullif(k[2], ''), nullif(k[3], ''), nullif(k[4], ''), session_id) AS conversation_id,
        nullif(k[5], '') AS parent_message_id,
        coalesce(nullif(k[6], ''), substr(list_filter(tags, lambda tag: starts_with(tag, 'tenant:'))[1], 8)) AS tenant_id,
        coalesce(nullif(k[7], ''), nullif(k[8], '')) AS agent_id,
        coalesce(nullif(k[9], ''), nullif(k[10], ''),
            nullif(regexp_extract(trace_name, '^LibreChat Agent: (.+)$', 1), '')) AS agent_name,
        nullif(k[11], '') AS endpoint,
        nullif(k[12], '') AS provider
    FROM (
        SELECT *, json_extract_string(metadata, [
            '$.messageId', '$.thread_id', '$.conversationId', '$."librechat.conversation.id"', '$.parentMessageId',
            '$."librechat.tenant.id"', '$.rootAgentId', '$.agentId', '$.rootAgentName', '$.agentName',
            '$."librechat.endpoint"', '$."librechat.provider"']) AS k
        FROM traces
        WHERE source_app = 'librechat'
    )
    WHERE nullif(k[1], '') IS NOT NULL
        AND NOT starts_with(k[1], 'title-')
        AND coalesce(trace_name, '') NOT IN ('TitleRun', 'MemoryRun')
),
-- A run that is resumed under a random id has a trace of its own.
first_turns AS (
    SELECT * FROM turns QUALIFY row_number() OVER (PARTITION BY message_id ORDER BY started_at, trace_id) = 1
),
-- Rows of one trace that lie more than two days apart have two trace rows.
turn_traces AS (
    SELECT trace_id, min(message_id) AS message_id FROM turns GROUP BY trace_id
),
texts AS (
    SELECT
        t.message_id,
        arg_min(o.input, (o.start_time, o.observation_id)) AS input,
        arg_max(o.output, (o.start_time, o.observation_id)) AS output
    FROM observations AS o
    JOIN turn_traces AS t USING (trace_id)
    WHERE o.source_app = 'librechat'
        AND (o.parent_observation_id IS NULL OR o.parent_observation_id = 't-' || o.trace_id)
        AND NOT o.is_synthetic
    GROUP BY t.message_id
),
-- Roots carry the plain text since July 2026, before that lists of messages.
last_messages AS (
    SELECT
        message_id,
        input,
        output,
        coalesce(json_extract(TRY_CAST(input AS JSON), '$.messages[*].content')[-1],
            json_extract(TRY_CAST(input AS JSON), '$[*].content')[-1]) AS question,
        coalesce(json_extract(TRY_CAST(output AS JSON), '$.messages[*].content')[-1],
            json_extract(TRY_CAST(output AS JSON), '$[*].content')[-1]) AS answer
    FROM texts
),
contents AS (
    SELECT
        message_id,
        CASE json_type(question)
            WHEN 'VARCHAR' THEN question ->> '$'
            WHEN 'ARRAY' THEN nullif(array_to_string(json_extract_string(question, '$[*].text'), ''), '')
            ELSE input
        END AS question,
        CASE json_type(answer)
            WHEN 'VARCHAR' THEN answer ->> '$'
            WHEN 'ARRAY' THEN nullif(array_to_string(json_extract_string(answer, '$[*].text'), ''), '')
            ELSE output
        END AS answer
    FROM last_messages
),
run_rows AS (
    SELECT
        t.message_id,
        o.observation_id,
        (o.start_time, o.observation_id) AS position,
        o.parent_observation_id IS NULL OR o.parent_observation_id = 't-' || o.trace_id AS is_root,
        o.type = 'GENERATION' AS is_call,
        o.type = 'AGENT' AND o.name = 'agent' AND starts_with(o.k[1], 'agent=') AS is_round,
        o.type = 'TOOL' AND starts_with(o.k[1], 'tools=') AS is_tool,
        -- The agent's keys of a row are those of the run's first agent on v2; the node is the row's own.
        nullif(regexp_extract(o.k[1], '^(agent|tools)=(.*)$', 2), '') AS agent_id,
        o.start_time,
        o.end_time,
        o.completion_start_time,
        o.level,
        o.status_message,
        o.model,
        o.total_cost,
        map_entries(o.usage) AS usage,
        nullif(o.k[3], '') AS model_requested,
        nullif(o.k[4], '') AS endpoint,
        coalesce(nullif(o.k[5], ''), nullif(o.k[6], ''), nullif(o.k[7], '')) AS provider
    FROM (
        SELECT *, json_extract_string(metadata, [
            '$.langgraph_node', '$."librechat.sdk.operation"', '$.ls_model_name', '$.endpoint', '$.provider',
            '$.resolvedProvider', '$.ls_provider']) AS k
        FROM observations
        WHERE source_app = 'librechat' AND NOT is_synthetic
    ) AS o
    JOIN turn_traces AS t USING (trace_id)
    WHERE o.k[2] IS NULL
),
runs AS (
    SELECT
        message_id,
        min(start_time) AS started_at,
        count(*) FILTER (is_root) AS n_roots,
        arg_max({'level': level, 'message': status_message, 'ended_at': end_time}, position) FILTER (is_root) AS last_root,
        count(*) FILTER (is_round) AS n_agent_rounds,
        count(*) FILTER (is_call) AS n_calls,
        count(*) FILTER (is_tool) AS n_tool_calls,
        count(DISTINCT agent_id) AS n_agents,
        arg_min(agent_id, position) FILTER (is_round) AS first_agent_id,
        arg_min(model, position) FILTER (is_call) AS model,
        arg_min(model_requested, position) FILTER (is_call) AS model_requested,
        arg_min(endpoint, position) FILTER (is_call) AS endpoint,
        arg_min(provider, position) FILTER (is_call) AS provider,
        min(completion_start_time) FILTER (is_call) AS first_token_at,
        TRY_CAST(sum(list_sum(list_transform(list_filter(usage, lambda used: starts_with(lower(used.key), 'input')),
            lambda used: used.value))) AS BIGINT) AS input_tokens,
        TRY_CAST(sum(list_sum(list_transform(list_filter(usage, lambda used: starts_with(lower(used.key), 'output')),
            lambda used: used.value))) AS BIGINT) AS output_tokens,
        TRY_CAST(sum(list_sum(list_transform(
            list_filter(usage, lambda used: starts_with(lower(used.key), 'input_cache_read')),
            lambda used: used.value))) AS BIGINT) AS cache_read_tokens,
        sum(total_cost) AS total_cost
    FROM run_rows
    GROUP BY message_id
),
thumbs AS (
    SELECT
        t.message_id,
        arg_max({'up': s.value_bool, 'tag': nullif(s.metadata ->> '$.tag', '')},
            (coalesce(s.updated_at, s.timestamp), s.timestamp, s.score_id)) AS last
    FROM scores AS s
    JOIN turn_traces AS t USING (trace_id)
    WHERE s.name = 'user-feedback' AND s.data_type = 'BOOLEAN' AND s.observation_id IS NULL
    GROUP BY t.message_id
)
SELECT
    t.message_id,
    t.trace_id,
    t.conversation_id,
    t.parent_message_id,
    t.user_id,
    t.tenant_id,
    coalesce(t.agent_id, r.first_agent_id) AS agent_id,
    t.agent_name,
    NOT starts_with(coalesce(t.agent_id, r.first_agent_id), 'agent_') AS is_ephemeral_agent,
    coalesce(r.endpoint, t.endpoint) AS endpoint,
    coalesce(r.provider, t.provider) AS provider,
    r.model_requested,
    r.model,
    c.question,
    c.answer,
    CASE WHEN r.n_agent_rounds > 0 THEN r.n_agent_rounds ELSE coalesce(r.n_calls, 0) END AS n_rounds,
    coalesce(r.n_tool_calls, 0) AS n_tool_calls,
    CASE WHEN r.n_agents > 0 THEN r.n_agents ELSE (t.agent_id IS NOT NULL)::BIGINT END AS n_agents,
    r.input_tokens,
    r.output_tokens,
    r.cache_read_tokens,
    r.total_cost,
    CASE
        WHEN r.last_root.level = 'ERROR' THEN 'error'
        WHEN r.last_root.ended_at IS NOT NULL THEN 'ok'
        WHEN r.n_roots > 0 THEN 'unfinished'
        ELSE 'unknown'
    END AS status,
    CASE WHEN r.last_root.level = 'ERROR' THEN r.last_root.message END AS error,
    coalesce(r.started_at, t.started_at) AS started_at,
    r.last_root.ended_at AS ended_at,
    (epoch_us(r.last_root.ended_at) - epoch_us(r.started_at)) / 1e6 AS duration_s,
    (epoch_us(r.first_token_at) - epoch_us(r.started_at)) / 1e6 AS ttft_s,
    f.last.up AS feedback,
    f.last.tag AS feedback_tag,
    coalesce(r.n_roots > 1, false) AS resumed,
    CASE WHEN left(sha256(t.message_id), 32) = t.trace_id THEN 'sha256' ELSE 'random' END AS id_scheme,
    t.project_id,
    t.project_name,
    t.partition_hour,
    t.ingested_at,
    t.run_id,
    t.read_path
FROM first_turns AS t
LEFT JOIN runs AS r USING (message_id)
LEFT JOIN contents AS c USING (message_id)
LEFT JOIN thumbs AS f USING (message_id)
