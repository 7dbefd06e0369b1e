-- One row per event and destination: what became of it. Read from the delivery ledger, whose files lie beside the
-- warehouse; the newest statement about an event counts.
-- materialized: view
-- destination: mixpanel or posthog.
-- event: Name of the event as sent.
-- event_id: `$insert_id` at Mixpanel, `uuid` at PostHog.
-- kind: Kind of event: trace, generation, score ...
-- entity_id: Langfuse's id of what the event tells of.
-- event_time: Time of the event.
-- distinct_id: User under which it is sent.
-- status: delivered, rejected or skipped.
-- reason: Why it was rejected or skipped; a remark on a delivered one.
-- delivered_at: When the destination took it last.
-- gone_at: When it was no longer among the hour's events; NULL for those that are.
-- payload: The whole event; of rejected ones only.
-- written_at: When this was found out.
SELECT
    destination,
    event,
    event_id,
    kind,
    entity_id,
    TRY(make_timestamp(time_ms * 1000)) AT TIME ZONE 'UTC' AS event_time,
    distinct_id,
    status,
    reason,
    delivered_at,
    gone_at,
    payload,
    written_at,
    run_id,
    partition_hour
FROM ledger
QUALIFY row_number() OVER (
    PARTITION BY destination, partition_hour, event, event_id ORDER BY written_at DESC
) = 1
