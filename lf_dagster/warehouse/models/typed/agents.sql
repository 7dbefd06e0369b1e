-- One row per agent, with the traces that it took part in: always as right as the traces.
-- materialized: view
-- agent_key: Its id, else the id that alone goes with its name, else its name.
-- agent_name: Its newest name.
-- agent_id: Its id, where metadata or the source app tells one.
-- agent_version: Its newest version.
-- detection_source: How it was found first: tag, metadata, name_pattern, librechat, dify_app or observation_type.
-- first_seen: Start of its first trace.
-- last_seen: End of its last trace.
-- n_traces: Traces that it took part in.
-- n_errors: Traces of them in which something failed.
-- total_cost [USD]: Cost of them, of all that took part in a trace.
-- source_app: Writer of its newest trace.
WITH sightings AS (
    SELECT
        agent_name, agent_id, agent_version, agent_source,
        trace_id, started_at, ended_at, n_errors, total_cost, source_app
    FROM traces
    WHERE agent_name IS NOT NULL
    UNION ALL BY NAME
    -- A trace's further tags; its first one is above.
    SELECT
        trim(substr(tag, 7)) AS agent_name, NULL::VARCHAR AS agent_id, NULL::VARCHAR AS agent_version,
        'tag' AS agent_source, trace_id, started_at, ended_at, n_errors, total_cost, source_app
    FROM (SELECT *, unnest(tags) AS tag, agent_name AS primary_name FROM traces WHERE agent_source = 'tag')
    WHERE starts_with(tag, 'agent:') AND trim(substr(tag, 7)) NOT IN ('', primary_name)
    UNION ALL BY NAME
    -- Agents that a LibreChat run handed over to are told by the graph's nodes alone.
    SELECT
        coalesce(nullif(regexp_extract(n.agent_id, '^.+?__.+?___(.+?)(____[0-9]+)?$', 1), ''), n.agent_id) AS agent_name,
        n.agent_id, NULL::VARCHAR AS agent_version, 'librechat' AS agent_source,
        t.trace_id, t.started_at, t.ended_at, t.n_errors, t.total_cost, t.source_app
    FROM (
        SELECT DISTINCT trace_id, substr(metadata ->> '$.langgraph_node', 7) AS agent_id
        FROM observations
        WHERE source_app = 'librechat' AND starts_with(metadata ->> '$.langgraph_node', 'agent=')
    ) AS n
    JOIN traces AS t USING (trace_id)
    WHERE t.source_app = 'librechat' AND n.agent_id <> '' AND n.agent_id IS DISTINCT FROM t.agent_id
),
only_ids AS (
    SELECT agent_name, min(agent_id) AS agent_id
    FROM sightings
    WHERE agent_id IS NOT NULL
    GROUP BY agent_name
    HAVING count(DISTINCT agent_id) = 1
),
keyed AS (
    SELECT
        s.* REPLACE (coalesce(s.agent_id, i.agent_id) AS agent_id),
        coalesce(s.agent_id, i.agent_id, s.agent_name) AS agent_key,
        -- A name tells more than an id that stands for one.
        s.agent_name IS DISTINCT FROM s.agent_id AS has_name
    FROM sightings AS s
    LEFT JOIN only_ids AS i USING (agent_name)
)
SELECT
    agent_key,
    arg_max(agent_name, (has_name, started_at, trace_id)) AS agent_name,
    any_value(agent_id) AS agent_id,
    arg_max(agent_version, (started_at, trace_id)) AS agent_version,
    arg_min(agent_source, (started_at, trace_id)) AS detection_source,
    min(started_at) AS first_seen,
    max(ended_at) AS last_seen,
    count(DISTINCT trace_id) AS n_traces,
    count(DISTINCT trace_id) FILTER (n_errors > 0) AS n_errors,
    sum(total_cost) AS total_cost,
    arg_max(source_app, (started_at, trace_id)) AS source_app
FROM keyed
GROUP BY agent_key
