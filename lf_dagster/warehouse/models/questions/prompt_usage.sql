-- One row per Langfuse prompt and version: calls, tokens, cost, speed, failures, and what the scores say. A score counts
-- for the generation that it is about, and one about a trace for each prompt that was used in it.
-- materialized: view
-- prompt_name: Langfuse prompt.
-- prompt_version: Its version.
-- first_used: Start of the first generation with it.
-- last_used: Start of the last one.
-- n_calls: Generations.
-- n_traces: Traces.
-- n_errors: Generations of level ERROR.
-- total_tokens [tokens]: Tokens; NULL beyond 2^63.
-- total_cost [USD]: Cost; NULL when none is known.
-- latency_p50_s [s]: Median latency.
-- latency_p95_s [s]: 95th percentile of the latency.
-- n_scores: Scores with a number or a truth value.
-- score_means: Mean of those by the score's name; 1 and 0 for true and false.
WITH calls AS (
    SELECT
        g.prompt_name, g.prompt_version, g.trace_id, g.observation_id, o.start_time, o.level,
        CASE WHEN g.usage_unit = 'tokens' THEN g.total_tokens END AS total_tokens, g.cost_total, g.latency_s
    FROM generations AS g
    JOIN observations AS o USING (partition_hour, trace_id, observation_id)
    WHERE g.prompt_name IS NOT NULL
),
judged AS (
    SELECT c.prompt_name, c.prompt_version, s.score_id, s.name, s.value_num
    FROM scores AS s
    JOIN calls AS c ON c.trace_id = s.trace_id AND c.observation_id = s.observation_id
    WHERE s.observation_id IS NOT NULL AND s.value_num IS NOT NULL AND s.data_type <> 'CATEGORICAL'
    UNION
    SELECT c.prompt_name, c.prompt_version, s.score_id, s.name, s.value_num
    FROM scores AS s
    JOIN calls AS c ON c.trace_id = s.trace_id
    WHERE s.observation_id IS NULL AND s.value_num IS NOT NULL AND s.data_type <> 'CATEGORICAL'
),
means AS (
    SELECT prompt_name, prompt_version, name, count(*) AS n_scores, avg(value_num) AS mean
    FROM judged
    GROUP BY prompt_name, prompt_version, name
),
verdicts AS (
    SELECT
        prompt_name,
        prompt_version,
        TRY_CAST(sum(n_scores) AS BIGINT) AS n_scores,
        map_from_entries(list({'k': name, 'v': mean} ORDER BY name)) AS score_means
    FROM means
    GROUP BY prompt_name, prompt_version
),
used AS (
    SELECT
        prompt_name,
        prompt_version,
        min(start_time) AS first_used,
        max(start_time) AS last_used,
        count(*) AS n_calls,
        count(DISTINCT trace_id) AS n_traces,
        count(*) FILTER (level = 'ERROR') AS n_errors,
        TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
        sum(cost_total) AS total_cost,
        quantile_cont(latency_s, 0.5) AS latency_p50_s,
        quantile_cont(latency_s, 0.95) AS latency_p95_s
    FROM calls
    GROUP BY prompt_name, prompt_version
)
SELECT
    u.prompt_name,
    u.prompt_version,
    u.first_used,
    u.last_used,
    u.n_calls,
    u.n_traces,
    u.n_errors,
    u.total_tokens,
    u.total_cost,
    u.latency_p50_s,
    u.latency_p95_s,
    coalesce(v.n_scores, 0) AS n_scores,
    v.score_means
FROM used AS u
LEFT JOIN verdicts AS v
    ON v.prompt_name = u.prompt_name AND v.prompt_version IS NOT DISTINCT FROM u.prompt_version
