-- The ten most expensive users, by the cost of their traces.
SELECT
    user_id,
    count(*) AS traces,
    sum(total_tokens)::DOUBLE AS tokens,
    coalesce(sum(total_cost), 0)::DOUBLE AS cost
FROM period_traces
WHERE user_id IS NOT NULL
GROUP BY user_id
HAVING sum(total_cost) > 0
ORDER BY cost DESC, user_id
LIMIT 10
