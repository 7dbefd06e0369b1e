-- The ten observation names (with their type) that failed most often.
SELECT
    name,
    type,
    count(*) AS observations,
    count(*) FILTER (level = 'ERROR') AS errors,
    errors / observations AS rate,
    count(DISTINCT trace_id) FILTER (level = 'ERROR') AS traces,
    max(start_time) FILTER (level = 'ERROR') AS last_at
FROM period_observations
GROUP BY name, type
HAVING count(*) FILTER (level = 'ERROR') > 0
ORDER BY errors DESC, name, type
LIMIT 10
