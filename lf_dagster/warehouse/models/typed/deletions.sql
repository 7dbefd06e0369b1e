-- One row per observation, score or trace that an hour once held and that Langfuse no longer returns for it: deleted
-- there, or moved to another hour by a changed time. No other table has it. Rows that expired by the project's retention
-- are not here, they stay where they are.
-- stream: observations, scores or traces (legacy read path only).
-- entity_id: Langfuse's id of the observation, score or trace.
-- trace_id: The trace that it belonged to, where it had one.
-- event_time: Start time (observations) or timestamp (scores, traces) when it was last returned; decides the partition.
-- deleted_seen_at: First read that no longer returned it; the deletion itself was between that read and the one before.
SELECT
    stream,
    id AS entity_id,
    trace_id,
    event_time,
    deleted_seen_at,
    read_path,
    partition_hour
FROM raw_deletions
WHERE partition_hour IN (SELECT partition_hour FROM run_hours)
