-- One row per conversation in LibreChat, with all that was done for it: answers, titles, memory, labels.
-- materialized: view
-- app: librechat
-- conversation_id: The conversation (LangGraph's thread, Langfuse's session).
-- user_id: User of its first run.
-- tenant_id: Tenant of its first run.
-- first_message_at: Start of the first turn; NULL when only a title or a label was read.
-- last_message_at: Start of the last turn.
-- n_turns: Answers, see librechat_messages.
-- n_titles: Runs that named it.
-- title: The last name that it was given; NULL unless content is read.
-- agents: Agents that took part, sorted: those that turns started with by name, others by id.
-- models: Models that answered in its turns, sorted.
-- providers: Their providers, sorted.
-- n_errors: Calls that failed, each once; calls of tools are not counted.
-- n_tool_calls: Calls of tools.
-- total_tokens [tokens]: Tokens of all its model calls; NULL beyond 2^63.
-- total_cost [USD]: Cost of all its model calls.
-- thumbs_up: Answers that the user liked.
-- thumbs_down: Answers that the user did not like.
WITH runs AS (
    SELECT
        trace_id, started_at, user_id, output, total_tokens, total_cost,
        project_id, project_name, partition_hour, ingested_at, run_id, read_path,
        coalesce(nullif(k[1], ''), nullif(k[2], ''), nullif(k[3], ''), session_id) AS conversation_id,
        coalesce(nullif(k[4], ''), substr(list_filter(tags, lambda tag: starts_with(tag, 'tenant:'))[1], 8)) AS tenant_id,
        coalesce(starts_with(k[5], 'title-') OR trace_name = 'TitleRun', false) OR list_contains(tags, 'title') AS is_title
    FROM (
        SELECT *, json_extract_string(metadata, [
            '$.thread_id', '$.conversationId', '$."librechat.conversation.id"', '$."librechat.tenant.id"',
            '$.messageId']) AS k
        FROM traces
        WHERE source_app = 'librechat'
    )
),
first_runs AS (
    SELECT * FROM runs WHERE conversation_id IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY conversation_id ORDER BY started_at, trace_id) = 1
),
titles AS (
    SELECT
        conversation_id,
        arg_max(coalesce(TRY_CAST(output AS JSON) ->> '$.title', output), (started_at, trace_id)) FILTER (is_title) AS title,
        count(DISTINCT trace_id) FILTER (is_title) AS n_titles,
        TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
        sum(total_cost) AS total_cost
    FROM runs
    GROUP BY conversation_id
),
turns AS (
    SELECT
        conversation_id,
        min(started_at) AS first_message_at,
        max(started_at) AS last_message_at,
        count(*) AS n_turns,
        TRY_CAST(sum(n_tool_calls) AS BIGINT) AS n_tool_calls,
        list(DISTINCT agent_id) AS agent_ids,
        list(DISTINCT coalesce(agent_name, agent_id)) AS agents,
        count(*) FILTER (feedback) AS thumbs_up,
        count(*) FILTER (NOT feedback) AS thumbs_down
    FROM librechat_messages
    GROUP BY conversation_id
),
run_rows AS (
    SELECT
        r.conversation_id,
        o.trace_id,
        o.observation_id,
        o.parent_observation_id,
        o.level = 'ERROR' AS is_error,
        o.type = 'TOOL' AS is_tool,
        CASE WHEN o.type = 'GENERATION' AND o.k[2] IS NULL AND NOT r.is_title THEN o.model END AS model,
        CASE WHEN o.type = 'GENERATION' AND o.k[2] IS NULL AND NOT r.is_title
            THEN coalesce(nullif(o.k[3], ''), nullif(o.k[4], ''), nullif(o.k[5], '')) END AS provider,
        nullif(regexp_extract(o.k[1], '^agent=(.*)$', 1), '') AS agent_id
    FROM (
        SELECT *, json_extract_string(metadata, [
            '$.langgraph_node', '$."librechat.sdk.operation"', '$.provider', '$.resolvedProvider', '$.ls_provider']) AS k
        FROM observations
        WHERE source_app = 'librechat' AND NOT is_synthetic
    ) AS o
    JOIN (
        SELECT trace_id, min(conversation_id) AS conversation_id, bool_or(is_title) AS is_title FROM runs GROUP BY trace_id
    ) AS r USING (trace_id)
),
-- A call that failed marks all that it happened in: the innermost row is the call.
marked AS (
    SELECT DISTINCT trace_id, parent_observation_id AS observation_id, true AS holds_error
    FROM run_rows
    WHERE is_error AND NOT is_tool AND parent_observation_id IS NOT NULL
),
calls AS (
    SELECT
        o.conversation_id,
        count(*) FILTER (o.is_error AND NOT o.is_tool AND m.holds_error IS NULL) AS n_errors,
        list(DISTINCT o.agent_id) FILTER (o.agent_id IS NOT NULL) AS agent_ids,
        list(DISTINCT o.model) FILTER (o.model IS NOT NULL) AS models,
        list(DISTINCT o.provider) FILTER (o.provider IS NOT NULL) AS providers
    FROM run_rows AS o
    LEFT JOIN marked AS m USING (trace_id, observation_id)
    GROUP BY o.conversation_id
)
SELECT
    r.conversation_id,
    r.user_id,
    r.tenant_id,
    t.first_message_at,
    t.last_message_at,
    coalesce(t.n_turns, 0) AS n_turns,
    n.n_titles,
    n.title,
    list_sort(list_distinct(
        list_filter(coalesce(t.agents, []), lambda agent: agent IS NOT NULL)
        || list_filter(coalesce(c.agent_ids, []), lambda agent: NOT list_contains(coalesce(t.agent_ids, []), agent))
    )) AS agents,
    list_sort(coalesce(c.models, [])) AS models,
    list_sort(coalesce(c.providers, [])) AS providers,
    coalesce(c.n_errors, 0) AS n_errors,
    coalesce(t.n_tool_calls, 0) AS n_tool_calls,
    n.total_tokens,
    n.total_cost,
    coalesce(t.thumbs_up, 0) AS thumbs_up,
    coalesce(t.thumbs_down, 0) AS thumbs_down,
    r.project_id,
    r.project_name,
    r.partition_hour,
    r.ingested_at,
    r.run_id,
    r.read_path
FROM first_runs AS r
JOIN titles AS n USING (conversation_id)
LEFT JOIN turns AS t USING (conversation_id)
LEFT JOIN calls AS c USING (conversation_id)
