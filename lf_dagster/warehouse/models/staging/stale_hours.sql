-- Hours outside the run whose stored rows would come out differently now: their trace context, depths, trace rows or
-- the trace context of their scores changed. Rerunning them is the caller's business.
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
            n.version, n.tags, n.metadata, n.n_observations, n.n_errors, n.total_tokens, n.input_tokens,
            n.output_tokens, n.total_cost, n.root_observation_id, n.mixpanel_session_id, n.posthog_session_id,
            n.public, n.bookmarked, n.input, n.output, n.n_generations, n.root_kind, n.source_app,
            n.agent_name, n.is_orphan)
        IS DISTINCT FROM
        (c.trace_name, c.timestamp, c.started_at, c.ended_at, c.user_id, c.session_id, c.environment, c.release,
            c.version, c.tags, c.metadata, c.n_observations, c.n_errors, c.total_tokens, c.input_tokens,
            c.output_tokens, c.total_cost, c.root_observation_id, c.mixpanel_session_id, c.posthog_session_id,
            c.public, c.bookmarked, c.input, c.output, c.n_generations, c.root_kind, c.source_app,
            c.agent_name, c.is_orphan)
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
)
SELECT DISTINCT partition_hour
FROM (
    SELECT * FROM contexts
    UNION ALL
    SELECT * FROM traces_compared
    UNION ALL
    SELECT * FROM scores_compared
)
WHERE changed
