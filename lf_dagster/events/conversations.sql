-- LibreChat conversations that close in the hours of the run: visits with what their turns say.
SELECT
    v.*,
    m.agents,
    m.models,
    coalesce(m.n_messages, 0) AS n_messages,
    coalesce(m.n_failed_messages, 0) AS n_failed_messages,
    coalesce(m.n_tool_calls, 0) AS n_tool_calls,
    coalesce(m.thumbs_up, 0) AS thumbs_up,
    coalesce(m.thumbs_down, 0) AS thumbs_down
FROM visits AS v
LEFT JOIN (
    SELECT
        t.visit_id,
        list_sort(list_distinct(list(m.agent_name))) AS agents,
        list_sort(list_distinct(list(m.model))) AS models,
        count(*) AS n_messages,
        count(*) FILTER (m.status = 'error') AS n_failed_messages,
        sum(m.n_tool_calls)::BIGINT AS n_tool_calls,
        count(*) FILTER (m.feedback) AS thumbs_up,
        count(*) FILTER (NOT m.feedback) AS thumbs_down
    FROM (SELECT visit_id, unnest(trace_ids) AS trace_id FROM visits) AS t
    JOIN librechat_messages AS m USING (trace_id)
    GROUP BY t.visit_id
) AS m USING (visit_id)
WHERE list_contains(v.source_apps, 'librechat')
