-- Hours outside the run whose stored rows would come out differently now: their trace context, depths, trace rows or
-- the trace context of their scores changed, or what events of source apps in them are made from. Rerunning them is the caller's business.
WITH contexts AS (
    SELECT
        o.partition_hour,
        (o.trace_name, o.trace_user_id, o.trace_session_id, o.trace_release, o.tags, o.trace_mixpanel_session_id,
            o.trace_posthog_session_id, o.source_app, o.depth)
        IS DISTINCT FROM
        (c.trace_name, c.user_id, c.session_id, c.release, c.tags, c.mixpanel_session_id,
            c.posthog_session_id, c.source_app, CASE WHEN o.depth IS NULL THEN d.depth ELSE coalesce(d.depth, 0) END)
        AS changed
    FROM neighbour_observations AS o
    JOIN near_hours USING (partition_hour)
    LEFT JOIN trace_context AS c USING (trace_id, partition_hour)
    LEFT JOIN observation_depths AS d USING (trace_id, observation_id, partition_hour)
),
owned AS (
    SELECT * FROM trace_context
    WHERE is_owner AND is_near AND partition_hour NOT IN (SELECT partition_hour FROM run_hours)
),
traces_compared AS (
    SELECT
        coalesce(n.partition_hour, c.partition_hour) AS partition_hour,
        (n.trace_name, n.timestamp, n.started_at, n.ended_at, n.user_id, n.session_id, n.environment, n.release,
            n.version, n.tags, n.metadata, n.metadata_gone,
            n.n_observations, n.n_errors, n.total_tokens, n.input_tokens,
            n.output_tokens, n.total_cost, n.root_observation_id, n.mixpanel_session_id, n.posthog_session_id,
            n.public, n.bookmarked, n.input, n.output, n.n_generations, n.n_tool_calls, n.root_kind, n.source_app,
            n.source_apps, n.agent_name, n.agent_id, n.agent_version, n.agent_source, n.is_orphan, n.app_digest)
        IS DISTINCT FROM
        (c.trace_name, c.timestamp, c.started_at, c.ended_at, c.user_id, c.session_id, c.environment, c.release,
            c.version, c.tags, c.metadata, c.metadata_gone,
            c.n_observations, c.n_errors, c.total_tokens, c.input_tokens,
            c.output_tokens, c.total_cost, c.root_observation_id, c.mixpanel_session_id, c.posthog_session_id,
            c.public, c.bookmarked, c.input, c.output, c.n_generations, c.n_tool_calls, c.root_kind, c.source_app,
            c.source_apps, c.agent_name, c.agent_id, c.agent_version, c.agent_source, c.is_orphan, c.app_digest)
        AS changed
    FROM (
        SELECT * FROM neighbour_traces JOIN near_hours USING (partition_hour)
        WHERE trace_id IN (SELECT trace_id FROM touched_traces)
    ) AS n
    FULL JOIN owned AS c USING (trace_id, partition_hour)
),
scores_compared AS (
    SELECT
        s.partition_hour,
        (s.trace_name, s.trace_user_id, s.trace_session_id, s.trace_release, s.trace_tags,
            s.trace_mixpanel_session_id, s.trace_posthog_session_id)
        IS DISTINCT FROM
        (c.row.trace_name, c.row.user_id, c.row.session_id, c.row.release, coalesce(c.row.tags, []),
            c.row.mixpanel_session_id, c.row.posthog_session_id)
        AS changed
    FROM neighbour_scores AS s
    LEFT JOIN score_traces AS c USING (score_id, partition_hour)
),
-- Events of source apps say things of their trace's other rows, so that all hours of a trace that changed are meant.
apps_changed AS (
    SELECT o.partition_hour, true AS changed
    FROM neighbour_observations AS o
    JOIN near_hours USING (partition_hour)
    JOIN trace_context AS c ON c.trace_id = o.trace_id AND c.is_owner
    LEFT JOIN held_app_traces AS h ON h.trace_id = c.trace_id
    WHERE c.source_app IN ('dify', 'librechat')
        AND (c.app_digest, c.metadata, c.timestamp) IS DISTINCT FROM (h.app_digest, h.metadata, h.timestamp)
),
-- Feedback belongs to a turn of any time before.
feedback_changed AS (
    SELECT t.partition_hour, true AS changed
    FROM (SELECT * FROM staged_scores WHERE name = 'user-feedback') AS s
    FULL JOIN held_feedback AS h USING (score_id)
    JOIN neighbour_traces AS t ON t.trace_id = coalesce(s.trace_id, h.trace_id)
    WHERE t.source_app = 'librechat'
        AND (s.value_bool, s.comment, s.metadata, s.trace_id) IS DISTINCT FROM
        (h.value_bool, h.comment, h.metadata, h.trace_id)
)
SELECT DISTINCT partition_hour
FROM (
    SELECT * FROM contexts
    UNION ALL
    SELECT * FROM traces_compared
    UNION ALL
    SELECT * FROM scores_compared
    UNION ALL
    SELECT * FROM apps_changed
    UNION ALL
    SELECT * FROM feedback_changed
)
WHERE changed
