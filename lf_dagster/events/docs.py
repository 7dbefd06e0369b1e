"""docs/events.md: the reference of events and properties, generated from the catalogue.

python -m lf_dagster.events.docs > docs/events.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lf_dagster.events.catalogue import Event, Property, load_catalogue
from lf_dagster.events.cutting import MAX_CHARACTERS, MAX_ITEMS, MAX_OBJECT_BYTES, POSTHOG_MAX_DISTINCT_ID
from lf_dagster.events.filters import REASONS
from lf_dagster.events.ids import NAMESPACES
from lf_dagster.events.nobody import MIXPANEL_DENIED_IDS, POSTHOG_ILLEGAL_IDS, UNKNOWN_USER
from lf_dagster.events.payload import (
    TIME_PROPERTY,
    TRUNCATED_PROPERTY,
)
from lf_dagster.warehouse import READ_PATH_DIFFERENCES

_INTRODUCTION = f"""# Events

Generated from `lf_dagster/events/kinds/` by `python -m lf_dagster.events.docs`; do not edit.

Each event goes to Mixpanel and PostHog with the properties below. `compatibility: documented` (the default) sends what
the public property tables promise; `compatibility: native` sends the units, nulls and texts of Langfuse's own
integrations, for dashboards that are built on those. Token counts are right in both.

Trace, generation and score events are always made, observation events with `observation_events`, those of PostHog's LLM
analytics (`$ai_...`) with `posthog.llm_analytics`, and the others when `extra_events` lists their kind. Inputs and
outputs are in none of them, except, on request, in those of LLM analytics (`posthog.llm_content`).

## Identity

- **Event id** (`$insert_id`, `uuid`): uuid v5 of `<project id>-<entity id>` in the namespace
  `{NAMESPACES["mixpanel"]}` (Mixpanel) or `{NAMESPACES["posthog"]}` (PostHog). These are the ids of Langfuse's own
  integrations, so an overlap with them does not count twice. For kinds that Langfuse does not have, the entity id is
  preceded by the kind: `<project id>-<kind>-<entity id>`.
- **Mixpanel** `distinct_id` and `$user_id` are the user id. Without one, or for an id that Mixpanel refuses
  ({", ".join(f"`{item}`" for item in MIXPANEL_DENIED_IDS)}; compared trimmed and in lower case), `distinct_id` is empty
  and there is no `$user_id`. `session_id` is the metadata `$mixpanel_session_id`, else the Langfuse session, else left
  out. `ip` is `"0"` (documented), so that users do not get the place of the sending machine.
- **PostHog** `distinct_id` is the user id. Without one, or (documented) for an id that PostHog calls illegal
  ({", ".join(f"`{item}`" for item in POSTHOG_ILLEGAL_IDS)}), it is the event id and the event makes no person profile.
  Known users get `$set.langfuse_user_url`. `$session_id` is the metadata `$posthog_session_id`; left out when missing
  (native: empty).
- **Events of LLM analytics** have the uuid v5 of `<event name>-<uuid of the row's "langfuse ..." event>` as id. Their
  `distinct_id` is that event's, also without a user, so that both of a row count as one user.
- `langfuse_user_id` is `{UNKNOWN_USER}` without user (documented), which is never a distinct id.
- An event that was delivered keeps the distinct id under which it was, and at Mixpanel the time, at PostHog the UTC
  day: else it would count twice. Where that is not its time any more, `{TIME_PROPERTY}` has the right one.
- With `hash_user_ids_env`, user ids are the SHA-256 (hex) of salt followed by id, everywhere; links to users are gone.

## Limits

Mixpanel cuts text at {MAX_CHARACTERS} characters without a word, and does not use an object of more than
{MAX_OBJECT_BYTES:,} bytes. So that is done here (documented; items and map values too, lists and maps at {MAX_ITEMS}
entries, maps at that size), and `{TRUNCATED_PROPERTY}` lists what was cut. PostHog takes distinct ids of up to
{POSTHOG_MAX_DISTINCT_ID} characters; longer ones are cut (documented). Native sends everything whole, as Langfuse does.
"""


def render() -> str:
    """The whole document."""
    return "\n".join([_INTRODUCTION, *_lines()]).rstrip() + "\n"


def _lines() -> Iterator[str]:
    for event in load_catalogue():
        yield from _event(event)
    yield from _skips()
    yield from _read_paths()


def _event(event: Event) -> Iterator[str]:
    yield f"## {' / '.join(event.names.values())}\n"
    asked = f" Made when `extra_events` lists `{event.kind}`." if event.is_extra else ""
    asked = " Made with `posthog.llm_analytics`." if event.is_llm else asked
    yield f"{event.description.strip()} Table `{event.table}`.{asked}\n"
    yield "| Property | Type | Unit | Sent | Meaning |"
    yield "|---|---|---|---|---|"
    yield from (_row(item) for item in event.properties)
    yield ""


def _row(item: Property) -> str:
    sent = f"{item.only} only" if item.only else "both, forms differ" if item.native else "both"
    sent = "with `llm_content`" if item.content else sent
    return f"| `{item.name}` | {item.type} | {item.unit or ''} | {sent} | {item.doc.strip()} |"


def _skips() -> Iterator[str]:
    yield "## Skipped events\n"
    yield "A skipped event is accounted with its reason. Filters of a destination give the first group.\n"
    yield "| Reason | Meaning |"
    yield "|---|---|"
    yield from (f"| `{reason}` | {text} |" for reason, text in REASONS.items())
    for event in load_catalogue():
        for rule in event.skip:
            where = f" ({rule.only} only)" if rule.only else ""
            yield f"| `{rule.reason}` | {event.kind} events{where}: {rule.doc} |"
    yield ""
    yield "`sample_rate` keeps a trace when the first 8 hex digits of the MD5 of its id, divided by 2^32, are below it;"
    yield "an event without trace goes by its session, else by its own id.\n"


def _read_paths() -> Iterator[str]:
    yield "## Read paths\n"
    yield "The same data read through the v2 and the legacy API gives equal typed rows, except for these columns."
    yield "Synthetic observations, and traces of which only inner observations are known, exist on v2 alone.\n"
    yield "| Table | Column | Reason |"
    yield "|---|---|---|"
    for table, columns in READ_PATH_DIFFERENCES.items():
        yield from (f"| `{table}` | `{column}` | {reason} |" for column, reason in columns.items())


if __name__ == "__main__":
    sys.stdout.write(render())
