-- Mean of the six most frequent number scores by the six models with most of them. A score of an observation counts for
-- that one's model, a score of a trace for each model that the trace used.
WITH models AS (
    SELECT DISTINCT trace_id, NULL AS observation_id, model FROM period_generations WHERE model IS NOT NULL
    UNION ALL
    SELECT DISTINCT trace_id, observation_id, model FROM period_observations WHERE model IS NOT NULL
),
scored AS (
    SELECT s.name, m.model, s.value
    FROM period_scores AS s
    JOIN models AS m
        ON m.trace_id = s.trace_id AND coalesce(m.observation_id, '') = coalesce(s.observation_id, '')
    WHERE s.value IS NOT NULL
),
names AS (SELECT name FROM scored GROUP BY name ORDER BY count(*) DESC, name LIMIT 6),
top_models AS (SELECT model FROM scored GROUP BY model ORDER BY count(*) DESC, model LIMIT 6)
SELECT model, name, count(*) AS scores, avg(value) AS mean
FROM scored
WHERE name IN (FROM names) AND model IN (FROM top_models)
GROUP BY ALL
ORDER BY model, name
