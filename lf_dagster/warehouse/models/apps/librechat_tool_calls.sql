-- One row per call of a tool in a turn of LibreChat.
-- materialized: view
-- app: librechat
-- observation_id: The call; unique within its trace.
-- trace_id: The turn's trace.
-- message_id: The turn, see librechat_messages.
-- conversation_id: The conversation.
-- agent_id: Agent that called.
-- tool_name: Tool.
-- tool_call_id: Id that the model gave the call; NULL unless content is read.
-- args: Arguments; NULL unless content is read.
-- output: What the tool answered; NULL unless content is read.
-- is_error: The call failed.
-- error: Why.
-- redacted: LibreChat hid the output (by its standard text); false unless content is read.
-- round: Round of the agent that asked for the call, from 1; see n_rounds of librechat_messages.
-- started_at: Start of the call.
-- latency_s [s]: End minus start.
WITH rows_of_agents AS (
    SELECT
        *,
        nullif(regexp_extract(node, '^(agent|tools)=(.*)$', 2), '') AS agent_id,
        type = 'TOOL' AS is_call
    FROM (
        SELECT *, json_extract_string(metadata, '$.langgraph_node') AS node
        FROM observations
        WHERE source_app = 'librechat' AND (type = 'TOOL' OR (type = 'AGENT' AND name = 'agent'))
    )
    WHERE starts_with(node, CASE WHEN type = 'TOOL' THEN 'tools=' ELSE 'agent=' END)
),
calls AS (
    SELECT
        *,
        -- A round that starts with the call comes before it.
        count(*) FILTER (NOT is_call) OVER (
            PARTITION BY trace_id, agent_id ORDER BY start_time, is_call, observation_id) AS round,
        TRY_CAST(output AS JSON) AS answer
    FROM rows_of_agents
),
read_calls AS (
    SELECT
        *,
        coalesce(answer ->> '$.kwargs.content', answer ->> '$.content', output) AS answer_text,
        coalesce(answer ->> '$.kwargs.tool_call_id', answer ->> '$.tool_call_id') AS tool_call_id,
        coalesce(answer ->> '$.kwargs.status', answer ->> '$.status') AS answer_status
    FROM calls
    WHERE is_call
),
turns AS (
    SELECT
        trace_id,
        min(nullif(k[1], '')) AS message_id,
        min(coalesce(nullif(k[2], ''), nullif(k[3], ''), nullif(k[4], ''), session_id)) AS conversation_id
    FROM (
        SELECT trace_id, session_id, json_extract_string(metadata, [
            '$.messageId', '$.thread_id', '$.conversationId', '$."librechat.conversation.id"']) AS k
        FROM traces
        WHERE source_app = 'librechat'
    )
    GROUP BY trace_id
)
SELECT
    c.observation_id,
    c.trace_id,
    t.message_id,
    t.conversation_id,
    c.agent_id,
    coalesce(c.name, 'unknown') AS tool_name,
    nullif(c.tool_call_id, '') AS tool_call_id,
    TRY_CAST(c.input AS JSON) AS args,
    nullif(c.answer_text, '') AS output,
    c.level = 'ERROR' OR coalesce(c.answer_status = 'error', false) AS is_error,
    CASE
        WHEN c.level = 'ERROR' THEN coalesce(c.status_message, nullif(c.answer_text, ''))
        WHEN c.answer_status = 'error' THEN nullif(c.answer_text, '')
    END AS error,
    coalesce(c.answer_text = '[tool output redacted]', false) AS redacted,
    CASE WHEN c.round > 0 THEN c.round END AS round,
    c.start_time AS started_at,
    c.latency_s,
    c.project_id,
    c.project_name,
    c.partition_hour,
    c.ingested_at,
    c.run_id,
    c.read_path
FROM read_calls AS c
LEFT JOIN turns AS t USING (trace_id)
