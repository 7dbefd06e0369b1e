-- One row per observation of level ERROR, with what its trace says.
-- materialized: view
-- start_time: Start of the observation.
-- environment: Langfuse environment.
-- trace_id: Its trace.
-- trace_name: Name of the trace.
-- observation_id: The observation.
-- type: SPAN, GENERATION, TOOL or another type.
-- name: Name of the observation.
-- model: Model name as sent, of generations.
-- status_message: What went wrong, as the application said it.
-- user_id: The row's user, else the trace's.
-- session_id: The row's session, else the trace's.
-- latency_s [s]: End minus start.
-- source_app: Writer of the trace.
SELECT
    start_time,
    environment,
    trace_id,
    trace_name,
    observation_id,
    type,
    name,
    model,
    status_message,
    user_id,
    session_id,
    latency_s,
    source_app,
    partition_hour
FROM observations
WHERE level = 'ERROR'
