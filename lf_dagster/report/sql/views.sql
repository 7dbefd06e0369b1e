-- What all queries read: the typed tables, without Langfuse's own environments, and with only such users as are people.
-- `both_*`: this period and, for comparison, the one before it (`current` tells them apart); `period_*`: this period.
-- A row counts in the hour that it belongs to (`partition_hour`); `bucket` is the step of the charts that it lies in.
CREATE TEMP VIEW every_trace AS
SELECT
    trace_id,
    partition_hour,
    date_trunc('{grain}', partition_hour) AS bucket,
    CASE
        WHEN source_app = 'dify' AND coalesce(trace_name IN ('generate_conversation_name', 'generate_name'), false)
            THEN NULL
        WHEN lower({bare_user}) IN ({nobody}) THEN NULL
        ELSE user_id
    END AS user_id,
    nullif(session_id, '') AS session_id,
    nullif(agent_name, '') AS agent_name,
    duration_s,
    n_errors,
    total_tokens,
    total_cost,
    partition_hour >= {first} AS current
FROM {schema}.traces
WHERE partition_hour < {stop} AND coalesce(environment, 'default') NOT IN ({internal});

CREATE TEMP VIEW both_traces AS
SELECT * FROM every_trace WHERE partition_hour >= {before};

CREATE TEMP VIEW both_observations AS
SELECT
    trace_id,
    observation_id,
    partition_hour,
    date_trunc('{grain}', partition_hour) AS bucket,
    type,
    nullif(name, '') AS name,
    nullif(model, '') AS model,
    level,
    start_time,
    total_cost,
    partition_hour >= {first} AS current
FROM {schema}.observations
WHERE partition_hour >= {before} AND partition_hour < {stop} AND NOT is_synthetic
    AND coalesce(environment, 'default') NOT IN ({internal});

-- A clock that jumps makes a duration negative: it is no duration then.
CREATE TEMP VIEW both_generations AS
SELECT
    o.trace_id,
    o.observation_id,
    o.partition_hour,
    o.bucket,
    o.model,
    o.level,
    o.total_cost,
    o.current,
    CASE WHEN g.latency_s >= 0 THEN g.latency_s END AS latency_s,
    CASE WHEN g.ttft_s >= 0 THEN g.ttft_s END AS ttft_s,
    CASE WHEN g.usage_unit = 'tokens' THEN g.tokens_per_s END AS tokens_per_s,
    CASE WHEN g.usage_unit = 'tokens' THEN g.input_tokens END AS input_tokens,
    CASE WHEN g.usage_unit = 'tokens' THEN g.output_tokens END AS output_tokens
FROM both_observations AS o
JOIN {schema}.generations AS g USING (trace_id, observation_id, partition_hour)
WHERE o.type = 'GENERATION' AND g.partition_hour >= {before} AND g.partition_hour < {stop};

-- Texts and corrections are what somebody wrote: they are counted, and nothing of them is shown.
CREATE TEMP VIEW both_scores AS
SELECT
    score_id,
    date_trunc('{grain}', partition_hour) AS bucket,
    name,
    data_type,
    CASE WHEN data_type IN ('NUMERIC', 'BOOLEAN') THEN value_num END AS value,
    CASE WHEN data_type = 'CATEGORICAL' THEN value_str END AS category,
    trace_id,
    observation_id,
    partition_hour >= {first} AS current
FROM {schema}.scores
WHERE partition_hour >= {before} AND partition_hour < {stop}
    AND coalesce(environment, 'default') NOT IN ({internal});

CREATE TEMP VIEW period_traces AS SELECT * FROM both_traces WHERE current;
CREATE TEMP VIEW period_observations AS SELECT * FROM both_observations WHERE current;
CREATE TEMP VIEW period_generations AS SELECT * FROM both_generations WHERE current;
CREATE TEMP VIEW period_scores AS SELECT * FROM both_scores WHERE current;

-- The steps of the charts. One without a modelled hour (`modelled_hours` is given) has no 0, nothing is known of it.
CREATE TEMP VIEW buckets AS
SELECT bucket, bucket IN (SELECT date_trunc('{grain}', hour) FROM modelled_hours) AS modelled
FROM (SELECT unnest(generate_series(
    date_trunc('{grain}', {first}), date_trunc('{grain}', {stop} - INTERVAL 1 hour), INTERVAL 1 {grain}
)) AS bucket);
