-- Trace rows of the run's hours on the legacy read path (no rows on v2, which has no traces).
WITH parsed AS (
    SELECT
        id,
        event_time,
        read_path,
        partition_hour,
        gone_keys(metadata_gone) AS gone,
        coalesce(read_trace(json), read_trace(without_surrogates(json))) AS j
    FROM raw_traces
)
SELECT
    partition_hour,
    read_path,
    id AS trace_id,
    nullif(j.name, '') AS trace_name,
    event_time AS timestamp,
    nullif(j.userId, '') AS user_id,
    nullif(j.sessionId, '') AS session_id,
    coalesce(nullif(j.environment, ''), 'default') AS environment,
    nullif(j.release, '') AS release,
    nullif(j.version, '') AS version,
    list_sort(list_distinct(coalesce(list_filter(j.tags, lambda tag: tag IS NOT NULL), []))) AS tags,
    coalesce(j.public, false) AS public,
    coalesce(j.bookmarked, false) AS bookmarked,
    content_text(j.input) AS input,
    content_text(j.output) AS output,
    with_gone_keys(json_object_or_empty(j.metadata), gone) AS metadata,
    last_seen(gone) AS metadata_gone,
    id_text(json_extract(j.metadata, '$."$mixpanel_session_id"')) AS mixpanel_session_id,
    id_text(json_extract(j.metadata, '$."$posthog_session_id"')) AS posthog_session_id,
    CASE WHEN j.id IS NULL THEN 'malformed JSON' END AS problem
FROM parsed
