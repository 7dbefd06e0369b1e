-- One row per observation of type GENERATION, with its tokens and costs spelled out.
-- observation_id: The observation.
-- trace_id: Its trace.
-- name: Name of the generation.
-- model: Model name as sent.
-- model_parameters: Model parameters.
-- input_tokens [tokens]: Sum of the usage keys that contain `input` (cached ones too); NULL beyond 2^63.
-- output_tokens [tokens]: Sum of the usage keys that contain `output`; NULL beyond 2^63.
-- total_tokens [tokens]: Usage key `total`, else the sum of all keys; NULL beyond 2^63.
-- cache_read_tokens [tokens]: Usage keys of tokens read from a prompt cache; NULL beyond 2^63.
-- cache_write_tokens [tokens]: Usage keys of tokens written to a prompt cache; NULL beyond 2^63.
-- reasoning_tokens [tokens]: Usage keys that contain `reasoning`; NULL beyond 2^63.
-- usage_unit: `tokens`; `characters` for Dify's suggested questions without a model.
-- cost_input [USD]: Sum of the cost keys that contain `input`.
-- cost_output [USD]: Sum of the cost keys that contain `output`.
-- cost_total [USD]: Cost key `total`.
-- cost_source: provided (the client sent only a total) or langfuse; NULL without cost.
-- ttft_s [s]: Time to first token.
-- latency_s [s]: End minus start.
-- tokens_per_s [tokens/s]: Output tokens per second of latency.
-- finish_reason: Finish reason, where the writer left one in the metadata.
-- tool_call_names: Tools that the model asked for; needs content.
-- prompt_name: Langfuse prompt that was used.
-- prompt_version: Its version.
SELECT
    observation_id,
    trace_id,
    name,
    model,
    model_parameters,
    usage_sum(usage, 'input') AS input_tokens,
    usage_sum(usage, 'output') AS output_tokens,
    usage_total(usage) AS total_tokens,
    known_sum(list_sum(list_transform(list_filter(map_entries(usage), lambda entry:
        contains(lower(entry.key), 'cache')
        AND (contains(lower(entry.key), 'read') OR contains(lower(entry.key), 'cached'))),
        lambda entry: entry.value))) AS cache_read_tokens,
    known_sum(list_sum(list_transform(list_filter(map_entries(usage), lambda entry:
        contains(lower(entry.key), 'cache')
        AND (contains(lower(entry.key), 'creation') OR contains(lower(entry.key), 'write'))),
        lambda entry: entry.value))) AS cache_write_tokens,
    known_sum(list_sum(list_transform(
        list_filter(map_entries(usage), lambda entry: contains(lower(entry.key), 'reasoning')),
        lambda entry: entry.value))) AS reasoning_tokens,
    CASE WHEN counts_characters(type, name, model) THEN 'characters' ELSE 'tokens' END AS usage_unit,
    list_sum(list_transform(list_filter(map_entries(cost), lambda entry: contains(lower(entry.key), 'input')),
        lambda entry: entry.value))::DECIMAL(38, 12) AS cost_input,
    list_sum(list_transform(list_filter(map_entries(cost), lambda entry: contains(lower(entry.key), 'output')),
        lambda entry: entry.value))::DECIMAL(38, 12) AS cost_output,
    total_cost AS cost_total,
    CASE
        WHEN cardinality(cost) = 0 THEN NULL
        WHEN map_keys(cost) = ['total'] THEN 'provided'
        ELSE 'langfuse'
    END AS cost_source,
    ttft_s,
    latency_s,
    CASE WHEN latency_s > 0 THEN usage_sum(usage, 'output') / latency_s END AS tokens_per_s,
    -- Few writers leave one: a look at the text is cheaper than reading it.
    CASE WHEN contains(metadata, 'finish_reason') THEN
        coalesce(metadata ->> '$.finish_reason', metadata ->> '$."attributes.gen_ai.response.finish_reasons"') END
        AS finish_reason,
    CASE WHEN json_valid(output) THEN list_filter(
        json_extract_string(output, '$.tool_calls[*].function.name')
        || json_extract_string(output, '$.tool_calls[*].name'), lambda tool: tool IS NOT NULL) END AS tool_call_names,
    prompt_name,
    prompt_version,
    read_path,
    partition_hour
FROM staged_observations
WHERE type = 'GENERATION'
