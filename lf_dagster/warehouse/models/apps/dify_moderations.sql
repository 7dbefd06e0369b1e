-- One row per moderation of a message by Dify. From 1.14 on Dify loses these rows on the way.
-- materialized: view
-- app: dify
-- observation_id: Langfuse's observation.
-- trace_id: Langfuse's trace.
-- message_id: Message that was moderated.
-- flagged: Whether it was flagged. Needs content.
-- action: What Dify does with flagged text: direct_output or overridden.
-- preset_response: The answer that is given instead.
-- query: Text that was moderated. Needs content.
-- started_at: Start.
-- ended_at: End.
-- orphan: Its trace does not exist (yet): it is sent when the message ends, and not at all when that fails.
WITH parsed AS (
    SELECT
        *,
        from_json(metadata, '{"message_id": "VARCHAR", "action": "VARCHAR", "preset_response": "VARCHAR",
            "query": "VARCHAR", "node_type": "VARCHAR", "dify.message.id": "VARCHAR",
            "dify": {"message": {"id": "VARCHAR"}}}') AS m
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type = 'SPAN' AND name = 'moderation'
)
SELECT
    o.observation_id,
    o.trace_id,
    coalesce(m.message_id, m."dify.message.id", m.dify.message.id) AS message_id,
    CASE WHEN json_valid(o.output) THEN TRY_CAST(json_extract_string(o.output, '$.flagged') AS BOOLEAN) END AS flagged,
    nullif(coalesce(m.action, CASE WHEN json_valid(o.output) THEN json_extract_string(o.output, '$.action') END), '')
        AS action,
    nullif(coalesce(m.preset_response, CASE WHEN json_valid(o.output)
        THEN json_extract_string(o.output, '$.preset_response') END), '') AS preset_response,
    CASE WHEN o.input IS NOT NULL OR o.output IS NOT NULL THEN nullif(coalesce(
        m.query, CASE WHEN json_valid(o.input) THEN json_extract_string(o.input, '$.query') ELSE o.input END), '')
    END AS query,
    o.start_time AS started_at,
    o.end_time AS ended_at,
    NOT EXISTS (SELECT 1 FROM traces AS t WHERE t.trace_id = o.trace_id AND NOT t.is_orphan) AS orphan,
    o.project_id,
    o.project_name,
    o.partition_hour,
    o.ingested_at,
    o.run_id,
    o.read_path
FROM parsed AS o
WHERE m.node_type IS NULL AND (coalesce(m."dify.message.id", m.dify.message.id) IS NOT NULL
    OR (m.message_id IS NOT NULL AND json_exists(o.metadata, '$.action')
        AND json_exists(o.metadata, '$.preset_response')))
