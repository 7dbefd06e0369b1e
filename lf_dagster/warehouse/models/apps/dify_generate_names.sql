-- One row per conversation that Dify gave a title. Dify sends a trace of its own and a span under another trace id, the
-- conversation's; both become one row, and one of them is enough.
-- materialized: view
-- app: dify
-- conversation_id: The conversation.
-- started_at: Start of the span, else time of the trace.
-- trace_half_id: Langfuse's trace.
-- span_half_id: Langfuse's observation.
-- tenant_id: Dify workspace, which Dify also puts into the user field of the trace.
-- input: First message of the conversation. Needs content.
-- title: The title. Needs content.
-- latency_s [s]: Duration.
-- environment: Langfuse environment.
WITH named AS (
    SELECT
        'trace' AS half, trace_id AS id, trace_id, started_at, NULL::DOUBLE AS latency_s, duration_s, environment,
        input, output, metadata,
        {'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path} AS audit
    FROM traces
    WHERE source_app = 'dify' AND trace_name IN ('generate_conversation_name', 'generate_name')
    UNION ALL BY NAME
    SELECT
        'span' AS half, observation_id AS id, trace_id, start_time AS started_at, latency_s, environment, input,
        output, metadata,
        {'project_id': project_id, 'project_name': project_name, 'partition_hour': partition_hour,
            'ingested_at': ingested_at, 'run_id': run_id, 'read_path': read_path} AS audit
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type = 'SPAN'
        AND name IN ('generate_conversation_name', 'generate_name')
),
parsed AS (
    SELECT
        *,
        from_json(metadata, '{"conversation_id": "VARCHAR", "tenant_id": "VARCHAR", "dify.conversation.id": "VARCHAR",
            "dify.tenant_id": "VARCHAR", "dify": {"conversation": {"id": "VARCHAR"}, "tenant_id": "VARCHAR"}}') AS m,
        CASE WHEN json_valid(input) THEN from_json(input, '[{"content": "VARCHAR", "text": "VARCHAR"}]')[-1] END
            AS asked
    FROM named
),
halves AS (
    SELECT
        half,
        id,
        coalesce(m.conversation_id, m."dify.conversation.id", m.dify.conversation.id) AS conversation_id,
        coalesce(m.tenant_id, m."dify.tenant_id", m.dify.tenant_id) AS tenant_id,
        started_at,
        coalesce(latency_s, nullif(duration_s, 0)) AS latency_s,
        nullif(coalesce(asked.content, asked.text, input), '') AS input,
        nullif(CASE WHEN json_valid(output) THEN coalesce(json_extract_string(output, '$[0].content'),
            json_extract_string(output, '$')) ELSE output END, '') AS title,
        environment,
        audit
    FROM parsed
    -- Under the conversation's id there is the span alone, elsewhere the trace; the root span of C1 is the trace again.
    WHERE (half = 'span') = coalesce(replace(trace_id, '-', '')
            = replace(coalesce(m.conversation_id, m."dify.conversation.id", m.dify.conversation.id), '-', ''), false)
        AND coalesce(m.tenant_id, m."dify.tenant_id", m.dify.tenant_id) IS NOT NULL
        AND coalesce(m.conversation_id, m."dify.conversation.id", m.dify.conversation.id) IS NOT NULL
),
-- A conversation can be named again: each half goes with the nearest one, if that is so from both sides.
pairs AS (
    SELECT
        s.id AS span_id,
        t.id AS trace_id
    FROM halves AS s
    JOIN halves AS t ON t.conversation_id = s.conversation_id AND t.half = 'trace'
    WHERE s.half = 'span'
    QUALIFY row_number() OVER (
            PARTITION BY s.id ORDER BY abs(epoch_us(t.started_at) - epoch_us(s.started_at)), t.id
        ) = 1
        AND row_number() OVER (
            PARTITION BY t.id ORDER BY abs(epoch_us(t.started_at) - epoch_us(s.started_at)), s.id
        ) = 1
),
joined AS (
    SELECT coalesce(p.trace_id, h.id) AS key, h.*
    FROM halves AS h
    LEFT JOIN pairs AS p ON h.half = 'span' AND p.span_id = h.id
)
SELECT
    any_value(conversation_id) AS conversation_id,
    arg_min(started_at, half) AS started_at,
    any_value(id) FILTER (half = 'trace') AS trace_half_id,
    any_value(id) FILTER (half = 'span') AS span_half_id,
    arg_min(tenant_id, half) AS tenant_id,
    arg_min(input, half) AS input,
    arg_min(title, half) AS title,
    arg_min(latency_s, half) AS latency_s,
    arg_min(environment, half) AS environment,
    arg_min(audit, half).project_id AS project_id,
    arg_min(audit, half).project_name AS project_name,
    arg_min(audit, half).partition_hour AS partition_hour,
    arg_min(audit, half).ingested_at AS ingested_at,
    arg_min(audit, half).run_id AS run_id,
    arg_min(audit, half).read_path AS read_path
FROM joined
GROUP BY key
