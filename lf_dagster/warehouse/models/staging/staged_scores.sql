-- Scores of the run's hours, of v3 (subject) or legacy v2 (ids); `""` is NULL.
WITH parsed AS (
    SELECT
        id,
        event_time,
        read_path,
        partition_hour,
        coalesce(read_score(json), read_score(without_surrogates(json))) AS j
    FROM raw_scores
),
subjects AS (
    SELECT
        *,
        -- priority of subjects as v3 has it: experiment, observation, session, trace (langfuse.md 5)
        CASE
            WHEN j.subject.kind IS NOT NULL THEN j.subject.kind
            WHEN j.datasetRunId <> '' THEN 'experiment'
            WHEN j.observationId <> '' THEN 'observation'
            WHEN j.sessionId <> '' THEN 'session'
            WHEN j.traceId <> '' THEN 'trace'
            ELSE 'unknown'
        END AS subject_kind,
        CASE WHEN json_type(j.value) IN ('NULL', 'OBJECT', 'ARRAY') THEN NULL ELSE j.value ->> '$' END AS value_text,
        nullif(j.stringValue, '') AS string_value
    FROM parsed
)
SELECT
    partition_hour,
    read_path,
    id AS score_id,
    coalesce(nullif(j.name, ''), '') AS name,
    coalesce(nullif(j.dataType, ''), 'NUMERIC') AS data_type,
    -- v3 gives BOOLEAN as true/false, legacy as 1/0; the number of a category exists on legacy alone
    CASE
        WHEN data_type = 'BOOLEAN' THEN (value_text IN ('true', '1', '1.0'))::INT::DOUBLE
        WHEN data_type IN ('TEXT', 'CORRECTION') THEN NULL
        WHEN isfinite(TRY_CAST(value_text AS DOUBLE)) THEN TRY_CAST(value_text AS DOUBLE)
    END AS value_num,
    CASE WHEN data_type = 'BOOLEAN' THEN value_text IN ('true', '1', '1.0') END AS value_bool,
    CASE
        WHEN data_type = 'NUMERIC' THEN NULL
        WHEN data_type = 'BOOLEAN' THEN CASE WHEN value_bool THEN 'True' ELSE 'False' END
        WHEN string_value IS NOT NULL THEN string_value
        WHEN read_path = 'v2' THEN value_text
    END AS value_str,
    subject_kind,
    CASE
        WHEN j.subject.kind = 'trace' THEN j.subject.id
        WHEN j.subject.kind IS NOT NULL THEN nullif(j.subject.traceId, '')
        ELSE nullif(j.traceId, '')
    END AS trace_id,
    CASE WHEN j.subject.kind = 'observation' THEN j.subject.id ELSE nullif(j.observationId, '') END AS observation_id,
    CASE WHEN j.subject.kind = 'session' THEN j.subject.id ELSE nullif(j.sessionId, '') END AS session_id,
    CASE WHEN j.subject.kind = 'experiment' THEN j.subject.id ELSE nullif(j.datasetRunId, '') END AS experiment_id,
    coalesce(nullif(j.source, ''), 'API') AS source,
    nullif(j.comment, '') AS comment,
    json_object_or_empty(j.metadata) AS metadata,
    nullif(j.authorUserId, '') AS author_user_id,
    nullif(j.configId, '') AS config_id,
    nullif(j.queueId, '') AS queue_id,
    coalesce(nullif(j.environment, ''), 'default') AS environment,
    event_time AS timestamp,
    known_time(j.createdAt) AS created_at,
    known_time(j.updatedAt) AS updated_at,
    CASE WHEN j.id IS NULL THEN 'malformed JSON' END AS problem
FROM subjects
