-- Hours outside the run in which a visit closes whose traces, or their feedback, this run changes: the events of closed
-- visits there would come out differently now. Any trace of the session from one pause before the changed one on may
-- have been, or be, the last of its visit, so that all of their closing hours are meant. `visit_traces`: the project's traces that may belong to one.
-- `held_visit_*` and `made_visit_*`: traces and feedback of the run's hours as they were and as they are.
WITH changed_sessions AS (
    SELECT unnest([m.session_id, h.session_id]) AS session_id, least(m.started_at, h.started_at) AS since
    FROM made_visit_traces AS m
    FULL JOIN held_visit_traces AS h USING (trace_id)
    WHERE (m.session_id, m.user_id, m.trace_name, m.environment, m.tags, m.started_at, m.ended_at, m.total_cost,
            m.total_tokens, m.n_errors, m.n_tool_calls, m.source_app, m.app_digest, m.mixpanel_session_id,
            m.posthog_session_id)
        IS DISTINCT FROM
        (h.session_id, h.user_id, h.trace_name, h.environment, h.tags, h.started_at, h.ended_at, h.total_cost,
            h.total_tokens, h.n_errors, h.n_tool_calls, h.source_app, h.app_digest, h.mixpanel_session_id,
            h.posthog_session_id)
    UNION
    SELECT t.session_id, t.started_at
    FROM made_visit_feedback AS s
    FULL JOIN held_visit_feedback AS f USING (score_id)
    JOIN (FROM visit_traces UNION ALL FROM made_visit_traces) AS t
        ON t.trace_id = coalesce(s.trace_id, f.trace_id)
    WHERE (s.value_bool, s.trace_id) IS DISTINCT FROM (f.value_bool, f.trace_id)
)
SELECT DISTINCT date_trunc('hour', t.ended_at + to_hours(session_idle_hours())) AS partition_hour
FROM (FROM visit_traces UNION ALL FROM made_visit_traces) AS t
JOIN changed_sessions AS c USING (session_id)
WHERE t.ended_at + to_hours(session_idle_hours()) > c.since
