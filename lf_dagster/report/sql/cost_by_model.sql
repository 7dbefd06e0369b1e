-- The ten most expensive models: what they were asked and what it cost. Embeddings are models too.
SELECT
    o.model,
    count(*) AS calls,
    sum(g.input_tokens)::DOUBLE AS input_tokens,
    sum(g.output_tokens)::DOUBLE AS output_tokens,
    coalesce(sum(o.total_cost), 0)::DOUBLE AS cost,
    count(*) FILTER (o.total_cost IS NULL) AS without_cost
FROM period_observations AS o
LEFT JOIN period_generations AS g USING (partition_hour, trace_id, observation_id)
WHERE o.type = 'GENERATION' OR o.model IS NOT NULL OR o.total_cost > 0
GROUP BY o.model
ORDER BY cost DESC, calls DESC, o.model
LIMIT 10
