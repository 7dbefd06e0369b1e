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

-- Inputs and outputs: raw text on v2, parsed JSON on legacy. Where the first characters tell, JSON is not parsed again.
CREATE OR REPLACE TEMP MACRO content_text(value) AS
    CASE WHEN json_type(value) <> 'NULL' THEN nullif(value ->> '$', '') END;
CREATE OR REPLACE TEMP MACRO json_object_or_empty(value) AS
    CASE WHEN starts_with(ltrim(value::VARCHAR), '{') THEN value ELSE '{}'::JSON END;

-- Metadata keys of an extract's `metadata_gone`, with their values and when they were last seen; NULL for none.
CREATE OR REPLACE TEMP MACRO gone_keys(gone) AS
    TRY(from_json(gone, '"MAP(VARCHAR, STRUCT(value JSON, last_seen_at VARCHAR))"'));
-- The newest metadata object with the keys that are gone from it, which by their making it does not have.
CREATE OR REPLACE TEMP MACRO with_gone_keys(metadata, gone) AS
    CASE WHEN len(map_keys(gone)) > 0 THEN coalesce(TRY_CAST(concat('{', concat_ws(',',
        nullif(trim(metadata::VARCHAR)[2:-2], ''),
        array_to_string(list_transform(map_entries(gone),
            lambda entry: to_json(entry.key)::VARCHAR || ':' || coalesce(entry.value.value::VARCHAR, 'null')), ',')
        ), '}') AS JSON), metadata) ELSE metadata END;
CREATE OR REPLACE TEMP MACRO last_seen(gone) AS
    CASE WHEN len(map_keys(gone)) > 0 THEN to_json(map_from_entries(list_transform(map_entries(gone),
        lambda entry: {'k': entry.key, 'v': entry.value.last_seen_at}))) END;

-- An id out of metadata: text or integer. Langfuse parses values, so 1e5 arrives as a float and true as a boolean:
-- what they were is lost, and they are no ids (langfuse.md 4.4).
CREATE OR REPLACE TEMP MACRO id_text(value) AS
    CASE WHEN json_type(value) IN ('VARCHAR', 'UBIGINT', 'BIGINT') THEN nullif(value ->> '$', '') END;

-- Marks that writers leave in metadata, flattened (v2) or nested (legacy), for app_of and writer_of: scope, service, ids of
-- Dify, marks of LangChain, LangGraph and LiteLLM. The last two are sessions of the destinations, so that metadata is
-- parsed once for all. Each is text, NULL where it is not there. A struct: its fields are found in one walk over the
-- keys, and reading one costs nothing.
CREATE OR REPLACE TEMP MACRO writer_marks(metadata) AS TRY(from_json(metadata, '{
    "scope.name": "VARCHAR", "scope": {"name": "VARCHAR"}, "resourceAttributes.service.name": "VARCHAR",
    "resourceAttributes": {"service.name": "VARCHAR"}, "workflow_run_id": "VARCHAR", "tenant_id": "VARCHAR",
    "node_execution_id": "VARCHAR", "message_id": "VARCHAR", "from_source": "VARCHAR", "conversation_id": "VARCHAR",
    "ls_provider": "VARCHAR", "ls_model_name": "VARCHAR", "ls_integration": "VARCHAR", "langgraph_node": "VARCHAR",
    "litellm_response_cost": "VARCHAR", "$mixpanel_session_id": "JSON", "$posthog_session_id": "JSON"}'));
CREATE OR REPLACE TEMP MACRO scope_of(mark) AS coalesce(mark."scope.name", mark.scope.name);
CREATE OR REPLACE TEMP MACRO service_of(mark) AS
    coalesce(mark."resourceAttributes.service.name", mark.resourceAttributes."service.name");

-- Names of metadata keys and span attributes, for writers that are known by those; NULL for rows whose metadata holds
-- none of their words, which are nearly all.
CREATE OR REPLACE TEMP MACRO writer_keys(metadata, mark) AS CASE
    WHEN contains(metadata, 'haystack.')
        -- A quote is on every hand, so that a search that begins with one is slow.
        OR (contains(metadata, 'dify') AND contains(metadata, '"dify'))
        -- Langfuse's own SDKs leave no attributes of spans in metadata.
        OR (coalesce(scope_of(mark), 'langfuse-sdk') <> 'langfuse-sdk' AND (contains(metadata, 'gen_ai.')
            OR contains(metadata, 'ai.operationId') OR contains(metadata, 'pydantic_ai.')))
    THEN list_transform(json_keys(metadata), lambda key: regexp_replace(key, '^attributes\.', ''))
        || coalesce(json_keys(metadata, '$.attributes'), [])
        || list_transform(coalesce(json_keys(metadata, '$.dify'), []), lambda key: 'dify.' || key)
END;
CREATE OR REPLACE TEMP MACRO any_starts_with(texts, prefix) AS
    coalesce(len(list_filter(texts, lambda text: starts_with(text, prefix))) > 0, false);

-- Names of LibreChat's traces; they alone prove nothing, and its tags are only there since May 2026.
CREATE OR REPLACE TEMP MACRO is_librechat_name(trace_name) AS
    coalesce(trace_name IN ('AgentRun', 'TitleRun', 'MemoryRun') OR starts_with(trace_name, 'LibreChat '), false);

-- The source app that a row belongs to (source-apps.md 5.3), `dify` or `librechat`; NULL for others.
CREATE OR REPLACE TEMP MACRO app_of(mark, keys, metadata, name, trace_name, tags) AS CASE
    WHEN service_of(mark) IN ('dify', 'dify-langfuse-app-trace')
        OR any_starts_with(keys, 'dify.')
        OR (mark.workflow_run_id IS NOT NULL AND (mark.tenant_id IS NOT NULL OR mark.node_execution_id IS NOT NULL))
        OR (mark.message_id IS NOT NULL AND mark.from_source IS NOT NULL)
        -- A moderation or tool call whose trace is not there.
        OR CASE WHEN mark.message_id IS NOT NULL THEN (coalesce(name = 'moderation', false)
                AND json_exists(metadata, '$.action') AND json_exists(metadata, '$.preset_response'))
            OR (json_exists(metadata, '$.tool_config') AND json_exists(metadata, '$.time_cost')) ELSE false END
        OR (mark.conversation_id IS NOT NULL AND mark.tenant_id IS NOT NULL
            AND name IN ('generate_conversation_name', 'generate_name')) THEN 'dify'
    WHEN list_contains(tags, 'librechat') THEN 'librechat'
    WHEN is_librechat_name(trace_name)
        AND json_extract_string(metadata, '$.messageId') IS NOT NULL
        AND coalesce(json_extract_string(metadata, '$.thread_id'), json_extract_string(metadata, '$.parentMessageId'))
            IS NOT NULL THEN 'librechat'
END;

-- Instrumentation scopes of LLM libraries that are their own name for source_app (source-apps.md 7; the list that
-- Langfuse's Python SDK keeps). General scopes, such as those of HTTP clients, are no writers.
CREATE OR REPLACE TEMP MACRO is_llm_scope(scope) AS regexp_full_match(scope, concat(
    '(agent_framework|autogen-core|haystack|langsmith|strands-agents|vllm|livekit-agents|genkit-tracer',
    '|gcp\.vertex\.agent|@flue/opentelemetry|openinference|opentelemetry\.instrumentation\.(agno|alephalpha|anthropic',
    '|bedrock|cohere|crewai|google_generativeai|groq|haystack|langchain|llamaindex|mistralai|ollama|openai|openai_agents',
    '|openai_v2|replicate|sagemaker|together|transformers|vertexai|voyageai|watsonx|writer))(\..*)?'));

-- The SDK or framework that wrote a row, whatever app it belongs to (source-apps.md 7); NULL without marks of any.
CREATE OR REPLACE TEMP MACRO writer_of(mark, keys, name, type) AS CASE
    WHEN name IN ('OpenAI-generation', 'OpenAI-embedding', 'OpenAI-completion') AND type IN ('GENERATION', 'EMBEDDING')
        THEN 'openai_wrapper'
    WHEN mark.litellm_response_cost IS NOT NULL OR (starts_with(name, 'litellm-') AND type = 'GENERATION')
        OR scope_of(mark) = 'litellm' THEN 'litellm'
    WHEN mark.langgraph_node IS NOT NULL OR mark.ls_integration = 'langgraph' THEN 'langgraph'
    WHEN mark.ls_integration IS NOT NULL OR (mark.ls_provider IS NOT NULL AND mark.ls_model_name IS NOT NULL) THEN 'langchain'
    WHEN service_of(mark) = 'openrouter' THEN 'openrouter'
    WHEN coalesce(scope_of(mark), 'langfuse-sdk') <> 'langfuse-sdk' OR keys IS NOT NULL THEN CASE
        WHEN scope_of(mark) = 'ai' OR list_contains(keys, 'ai.operationId') THEN 'vercel_ai'
        WHEN starts_with(scope_of(mark), 'openinference.instrumentation.llama_index') THEN 'llamaindex'
        WHEN starts_with(scope_of(mark), 'openinference.instrumentation.haystack')
            OR any_starts_with(keys, 'haystack.') THEN 'haystack'
        WHEN scope_of(mark) = 'pydantic-ai' OR any_starts_with(keys, 'pydantic_ai.') THEN 'pydantic_ai'
        WHEN is_llm_scope(scope_of(mark)) THEN scope_of(mark)
        WHEN list_contains(keys, 'gen_ai.operation.name') OR list_contains(keys, 'gen_ai.request.model') THEN 'otel_genai'
    END
END;

-- The first text (or number) of some JSON values, trimmed.
CREATE OR REPLACE TEMP MACRO first_text(found) AS list_filter(
    list_transform(found, lambda item: CASE WHEN json_type(item) IN ('VARCHAR', 'UBIGINT', 'BIGINT', 'DOUBLE')
        THEN nullif(trim(item ->> '$'), '') END), lambda text: text IS NOT NULL)[1];

-- Whatever a sender writes, a row is read and no later sum or conversion fails for it. What Langfuse's database cannot
-- hold (years 1900 to 2299), or no clock has measured (3,000 years in seconds), is not known: NULL.
CREATE OR REPLACE TEMP MACRO known_time(moment) AS
    CASE WHEN moment >= TIMESTAMPTZ '1900-01-01 00:00:00+00' AND moment < TIMESTAMPTZ '2300-01-01 00:00:00+00'
        THEN moment END;
CREATE OR REPLACE TEMP MACRO known_seconds(seconds) AS CASE WHEN abs(seconds) < 1e11 THEN seconds END;
-- A sum of whole numbers, which DuckDB makes wider than they are; NULL where it does not fit again.
CREATE OR REPLACE TEMP MACRO known_sum(total) AS TRY_CAST(total AS BIGINT);

-- A moment as a time without zone, in UTC; `timezone` asks a calendar, which takes twenty times as long.
CREATE OR REPLACE TEMP MACRO utc_time(moment) AS make_timestamp(epoch_us(moment));

-- Sum of the usage keys that contain a word (`input`, `output`); NULL when no usage is known at all. The wide ones are
-- for sums over rows, from which a row that is too large alone must not be missing.
CREATE OR REPLACE TEMP MACRO wide_usage_sum(usage, word) AS
    CASE WHEN len(map_keys(usage)) > 0 THEN coalesce(list_sum(list_transform(
        list_filter(map_entries(usage), lambda entry: contains(lower(entry.key), word)),
        lambda entry: entry.value)), 0::HUGEINT) END;
CREATE OR REPLACE TEMP MACRO wide_usage_total(usage) AS
    coalesce(map_extract_value(usage, 'total')::HUGEINT, list_sum(map_values(usage)));
CREATE OR REPLACE TEMP MACRO usage_sum(usage, word) AS known_sum(wide_usage_sum(usage, word));
CREATE OR REPLACE TEMP MACRO usage_total(usage) AS known_sum(wide_usage_total(usage));

-- Dify's suggested questions report characters, under keys that look like tokens (source-apps.md 2.6).
CREATE OR REPLACE TEMP MACRO counts_characters(type, name, model) AS
    type = 'GENERATION' AND model IS NULL AND coalesce(name = 'suggested_question', false);

-- The user of a trace, unless it is the tenant id that Dify puts there when it names a conversation.
CREATE OR REPLACE TEMP MACRO person(user_id, source_app, trace_name) AS
    CASE WHEN source_app = 'dify' AND coalesce(trace_name IN ('generate_conversation_name', 'generate_name'), false)
        THEN NULL ELSE user_id END;

-- One number that orders rows by time, ties by id: arg_min over it never ties.
CREATE OR REPLACE TEMP MACRO order_key(moment, id) AS
    epoch_us(moment)::HUGEINT * 18446744073709551616::HUGEINT + md5_number_lower(id)::HUGEINT;
