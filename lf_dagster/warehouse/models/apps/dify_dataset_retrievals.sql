-- One row per search of a knowledge base for a message of a Dify app. From 1.14 on Dify loses these rows on the way;
-- those of workflows and chatflows are nodes of type knowledge-retrieval.
-- materialized: view
-- app: dify
-- observation_id: Langfuse's observation.
-- trace_id: Langfuse's trace.
-- message_id: Message that it was for.
-- query: What was searched. Needs content.
-- n_documents: Documents that were found. Needs content.
-- dataset_ids: Knowledge bases of the documents, sorted. Needs content.
-- dataset_names: Their names, sorted. Needs content.
-- max_score: Best score of a document. Needs content.
-- embedding_models: Embedding model and provider by knowledge base.
-- started_at: Start.
-- latency_s [s]: Duration.
-- documents: The documents as Dify has them. Needs content.
WITH parsed AS (
    SELECT
        *,
        from_json(metadata, '{"message_id": "VARCHAR", "embedding_models": "JSON", "node_type": "VARCHAR",
            "dify.message.id": "VARCHAR", "dify": {"message": {"id": "VARCHAR"}}}') AS m,
        CASE WHEN json_valid(output) THEN
            CASE WHEN json_type(output, '$.documents') = 'ARRAY' THEN json_extract(output, '$.documents') END
        END AS documents,
        CASE WHEN json_valid(input) THEN from_json(input, '[{"content": "VARCHAR", "text": "VARCHAR"}]')[-1] END
            AS asked
    FROM observations
    WHERE source_app = 'dify' AND NOT is_synthetic AND type IN ('SPAN', 'RETRIEVER') AND name = 'dataset_retrieval'
)
SELECT
    o.observation_id,
    o.trace_id,
    coalesce(m.message_id, m."dify.message.id", m.dify.message.id) AS message_id,
    nullif(coalesce(asked.content, asked.text,
        CASE WHEN json_valid(o.input) THEN json_extract_string(o.input, '$.query') END, o.input), '') AS query,
    json_array_length(o.documents)::BIGINT AS n_documents,
    list_sort(list_distinct(json_extract_string(o.documents, '$[*].metadata.dataset_id'))) AS dataset_ids,
    list_sort(list_distinct(json_extract_string(o.documents, '$[*].metadata.dataset_name'))) AS dataset_names,
    list_max(list_filter(list_transform(json_extract_string(o.documents, '$[*].metadata.score'),
        lambda score: TRY_CAST(score AS DOUBLE)), lambda score: isfinite(score))) AS max_score,
    CASE WHEN json_type(m.embedding_models) = 'OBJECT' THEN m.embedding_models END AS embedding_models,
    o.start_time AS started_at,
    o.latency_s,
    o.documents,
    o.project_id,
    o.project_name,
    o.partition_hour,
    o.ingested_at,
    o.run_id,
    o.read_path
FROM parsed AS o
WHERE m.node_type IS NULL AND coalesce(m.message_id, m."dify.message.id", m.dify.message.id) IS NOT NULL
    AND (o.output IS NULL OR o.documents IS NOT NULL)
