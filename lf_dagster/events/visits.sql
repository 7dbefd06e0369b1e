-- Visits: traces of a session without a pause of session_idle_hours() between them, one row per visit that closes in
-- the hours of the run. A visit belongs to the hour in which it closes, so that nothing in it depends on later hours;
-- traces up to 60 hours before that one are looked at, whatever other hours the run has. first_hour() and last_hour(): of
-- the run.
WITH seen AS (
    SELECT
        *,
        max(ended_at) OVER (
            PARTITION BY session_id ORDER BY started_at, trace_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS busy_until
    FROM traces
    WHERE session_id IS NOT NULL
        AND partition_hour BETWEEN first_hour() - INTERVAL 60 HOUR AND last_hour()
),
numbered AS (
    SELECT
        *,
        count(*) FILTER (coalesce(started_at - busy_until >= to_hours(session_idle_hours()), true)) OVER (
            PARTITION BY session_id ORDER BY started_at, trace_id
        ) AS visit
    FROM seen
),
closed AS (
    SELECT
        *,
        max(ended_at) OVER (PARTITION BY session_id, visit) AS last_end
    FROM numbered
)
SELECT
    session_id || '@' || epoch_ms(min(started_at)) AS visit_id,
    session_id,
    min(started_at) AS started_at,
    max(ended_at) AS ended_at,
    (epoch_us(max(ended_at)) - epoch_us(min(started_at))) / 1e6 AS duration_s,
    arg_min(trace_id, (started_at, trace_id)) AS first_trace_id,
    list_sort(list(trace_id)) AS trace_ids,
    arg_min(trace_name, (started_at, trace_id)) AS trace_name,
    arg_min(environment, (started_at, trace_id)) AS environment,
    arg_min(person(user_id, source_app, trace_name), (started_at, trace_id))
        FILTER (person(user_id, source_app, trace_name) IS NOT NULL) AS user_id,
    arg_min(mixpanel_session_id, (started_at, trace_id)) FILTER (mixpanel_session_id IS NOT NULL) AS mixpanel_session_id,
    arg_min(posthog_session_id, (started_at, trace_id)) FILTER (posthog_session_id IS NOT NULL) AS posthog_session_id,
    list_sort(list_distinct(flatten(list(tags)))) AS tags,
    count(*) FILTER (coalesce(trace_name, '') NOT IN
        ('TitleRun', 'MemoryRun', 'generate_conversation_name', 'generate_name')) AS n_turns,
    count(DISTINCT person(user_id, source_app, trace_name)) AS n_users,
    sum(total_cost) AS total_cost,
    TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
    count(*) FILTER (n_errors > 0) AS n_failed,
    list_sort(list_distinct(list(source_app))) AS source_apps,
    arg_min(read_path, (started_at, trace_id)) AS read_path,
    date_trunc('hour', max(ended_at) + to_hours(session_idle_hours())) AS partition_hour
FROM closed
WHERE partition_hour >= date_trunc('hour', last_end + to_hours(session_idle_hours())) - INTERVAL 60 HOUR
GROUP BY session_id, visit
