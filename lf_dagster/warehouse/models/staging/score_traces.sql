-- The trace row that each score belongs to: the latest one from 30 days before the score's hour to 48 h after it.
-- A trace that the run touches is taken as it comes out now, not as an hour that has become stale holds it.
WITH known_traces AS (
    SELECT * FROM trace_context WHERE is_owner AND is_near
    UNION ALL BY NAME
    SELECT n.* FROM neighbour_traces AS n
    LEFT JOIN near_hours AS h USING (partition_hour)
    WHERE h.partition_hour IS NULL OR n.trace_id NOT IN (SELECT trace_id FROM touched_traces)
),
scores_seen AS (
    SELECT score_id, partition_hour, trace_id FROM staged_scores
    UNION ALL
    SELECT score_id, partition_hour, trace_id FROM neighbour_scores
)
SELECT
    s.score_id,
    s.partition_hour,
    any_value(s.trace_id) AS trace_id,
    arg_max(t.row, t.row.partition_hour) AS row
FROM scores_seen AS s
JOIN (
    SELECT trace_id, partition_hour, {
        'partition_hour': partition_hour, 'trace_name': trace_name, 'user_id': user_id, 'session_id': session_id,
        'release': release, 'tags': tags, 'mixpanel_session_id': mixpanel_session_id,
        'posthog_session_id': posthog_session_id
    } AS row
    FROM known_traces
) AS t
    ON t.trace_id = s.trace_id
    AND t.partition_hour BETWEEN s.partition_hour - INTERVAL 30 DAY AND s.partition_hour + INTERVAL 48 HOUR
GROUP BY s.score_id, s.partition_hour
