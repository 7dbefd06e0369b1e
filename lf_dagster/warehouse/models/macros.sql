-- Functions that the models share; created as temporary macros in every connection that runs models.

-- The columns of an observation row of either read path; a value of another type reads as NULL, unknown keys are ignored.
CREATE OR REPLACE TEMP MACRO read_observation(text) AS TRY(from_json(text, '{
    "id": "VARCHAR", "traceId": "VARCHAR", "parentObservationId": "VARCHAR", "type": "VARCHAR", "name": "VARCHAR",
    "endTime": "TIMESTAMPTZ", "completionStartTime": "TIMESTAMPTZ", "level": "VARCHAR", "statusMessage": "VARCHAR",
    "environment": "VARCHAR", "version": "VARCHAR", "release": "VARCHAR", "userId": "VARCHAR", "sessionId": "VARCHAR",
    "traceName": "VARCHAR", "tags": "VARCHAR[]", "input": "JSON", "output": "JSON", "metadata": "JSON",
    "model": "VARCHAR", "providedModelName": "VARCHAR", "modelParameters": "JSON",
    "usageDetails": "MAP(VARCHAR, BIGINT)", "costDetails": "MAP(VARCHAR, DOUBLE)",
    "promptName": "VARCHAR", "promptVersion": "BIGINT", "isRootObservation": "BOOLEAN", "public": "BOOLEAN",
    "bookmarked": "BOOLEAN", "latency": "DOUBLE", "timeToFirstToken": "DOUBLE",
    "createdAt": "TIMESTAMPTZ", "updatedAt": "TIMESTAMPTZ"}'));

-- The columns of a trace row of the legacy read path.
CREATE OR REPLACE TEMP MACRO read_trace(text) AS TRY(from_json(text, '{
    "id": "VARCHAR", "name": "VARCHAR", "environment": "VARCHAR", "tags": "VARCHAR[]", "bookmarked": "BOOLEAN",
    "release": "VARCHAR", "version": "VARCHAR", "userId": "VARCHAR", "sessionId": "VARCHAR", "public": "BOOLEAN",
    "input": "JSON", "output": "JSON", "metadata": "JSON", "createdAt": "TIMESTAMPTZ", "updatedAt": "TIMESTAMPTZ"}'));

-- The columns of a score row: v3 (subject) or legacy v2 (traceId, observationId, sessionId, datasetRunId).
CREATE OR REPLACE TEMP MACRO read_score(text) AS TRY(from_json(text, '{
    "id": "VARCHAR", "name": "VARCHAR", "dataType": "VARCHAR", "value": "JSON", "stringValue": "VARCHAR",
    "source": "VARCHAR", "comment": "VARCHAR", "metadata": "JSON", "configId": "VARCHAR", "queueId": "VARCHAR",
    "authorUserId": "VARCHAR", "environment": "VARCHAR",
    "subject": {"kind": "VARCHAR", "id": "VARCHAR", "traceId": "VARCHAR"},
    "traceId": "VARCHAR", "observationId": "VARCHAR", "sessionId": "VARCHAR", "datasetRunId": "VARCHAR",
    "createdAt": "TIMESTAMPTZ", "updatedAt": "TIMESTAMPTZ"}'));

-- A lone surrogate escape (half an emoji, from a text cut in the wrong place) makes JSON invalid for every strict
-- reader; a row that cannot be read is read again with U+FFFD for its surrogates.
CREATE OR REPLACE TEMP MACRO without_surrogates(text) AS
    regexp_replace(text, '\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '\\ufffd', 'g');

-- Inputs and outputs: raw text on v2, parsed JSON on legacy.
CREATE OR REPLACE TEMP MACRO content_text(value) AS
    CASE WHEN json_type(value) <> 'NULL' THEN nullif(value ->> '$', '') END;
CREATE OR REPLACE TEMP MACRO json_object_or_empty(value) AS
    CASE WHEN json_type(value) = 'OBJECT' THEN value ELSE '{}'::JSON END;

-- An id out of metadata: text or integer. Langfuse parses values, so 1e5 arrives as a float and true as a boolean:
-- what they were is lost, and they are no ids (langfuse.md 4.4).
CREATE OR REPLACE TEMP MACRO metadata_id(metadata, path) AS
    CASE WHEN json_type(metadata, path) IN ('VARCHAR', 'UBIGINT', 'BIGINT')
        THEN nullif(json_extract_string(metadata, path), '') END;

-- Marks that writers leave in metadata, flattened (v2) or nested (legacy), for source_app.
CREATE OR REPLACE TEMP MACRO writer_marks(metadata) AS json_extract_string(metadata, [
    '$."scope.name"', '$.scope.name', '$."resourceAttributes.service.name"',
    '$.resourceAttributes."service.name"', '$.workflow_run_id', '$.tenant_id', '$.node_execution_id',
    '$.message_id', '$.from_source', '$.ls_provider', '$.litellm_response_cost', '$.conversation_id'
]);

-- Which writer a row carries the marks of (source-apps.md 5.3 and 7); the first that fits, NULL for none.
CREATE OR REPLACE TEMP MACRO writer(mark, name, tags) AS CASE
    WHEN coalesce(mark[3], mark[4]) IN ('dify', 'dify-langfuse-app-trace')
        OR (mark[5] IS NOT NULL AND (mark[6] IS NOT NULL OR mark[7] IS NOT NULL))
        OR (mark[8] IS NOT NULL AND mark[9] IS NOT NULL)
        OR (mark[12] IS NOT NULL AND mark[6] IS NOT NULL
            AND name IN ('generate_conversation_name', 'generate_name')) THEN 'dify'
    WHEN list_contains(tags, 'librechat') THEN 'librechat'
    WHEN name IN ('OpenAI-generation', 'OpenAI-embedding', 'OpenAI-completion') THEN 'openai_wrapper'
    WHEN mark[11] IS NOT NULL OR starts_with(name, 'litellm-')
        OR coalesce(mark[1], mark[2]) = 'litellm' THEN 'litellm'
    WHEN mark[10] IS NOT NULL THEN 'langchain'
    WHEN coalesce(mark[1], mark[2]) = 'ai' THEN 'vercel_ai'
    WHEN starts_with(coalesce(mark[1], mark[2]), 'openinference.instrumentation.llama_index') THEN 'llamaindex'
    WHEN coalesce(mark[1], mark[2]) = 'openinference.instrumentation.haystack' THEN 'haystack'
    WHEN coalesce(mark[1], mark[2]) = 'pydantic-ai' THEN 'pydantic_ai'
END;

-- Sum of the usage keys that contain a word (`input`, `output`); NULL when no usage is known at all.
CREATE OR REPLACE TEMP MACRO usage_sum(usage, word) AS
    CASE WHEN len(map_keys(usage)) > 0 THEN coalesce(list_sum(list_transform(
        list_filter(map_entries(usage), lambda entry: contains(lower(entry.key), word)),
        lambda entry: entry.value))::BIGINT, 0) END;
CREATE OR REPLACE TEMP MACRO usage_total(usage) AS
    coalesce(map_extract_value(usage, 'total'), list_sum(map_values(usage))::BIGINT);

-- One number that orders rows by time, ties by id: arg_min over it never ties.
CREATE OR REPLACE TEMP MACRO order_key(moment, id) AS
    epoch_us(moment)::HUGEINT * 18446744073709551616::HUGEINT + md5_number_lower(id)::HUGEINT;
