"""What a user's profile in Mixpanel says, as SQL over the typed tables.

Everything is a function of what the warehouse holds, never of the moment of the run, so that a rerun gives the same
values. A profile sums up the traces whose event Mixpanel is sent of that user: the same filters, the same distinct id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lf_dagster.config import MixpanelSettings, ProjectSettings
from lf_dagster.events import prepared_sql
from lf_dagster.events.cutting import MAX_CHARACTERS
from lf_dagster.profiles import ProfilePropertyName, ProfileSettings
from lf_dagster.warehouse import ALIAS
from lf_dagster.warehouse.database import identifier, literal

USER_URL = "langfuse_user_url"
_COUNTED = (
    "partition_hour", "trace_id", "timestamp", "started_at", "ended_at", "user_id", "session_id", "environment",
    "n_errors", "input_tokens", "output_tokens", "total_tokens", "total_cost", "agent_name", "source_app",
    "project_name",
)  # fmt: skip
MOST_ITEMS = 20
"""Members of a list."""
MOST_SCORE_NAMES = 50


@dataclass(frozen=True)
class ProfileProperty:
    """One property, `name` without the prefix; `sql` over the relation `users` and what it is joined with."""

    name: ProfilePropertyName
    type: str
    doc: str
    sql: str


def _moment(column: str) -> str:
    return f"strftime(timezone('UTC', {column}), '%Y-%m-%dT%H:%M:%S')"


PROPERTIES = (
    ProfileProperty("first_seen", "date", "Start of the first trace (UTC).", _moment("first_seen")),
    ProfileProperty("last_seen", "date", "End of the last trace (UTC).", _moment("last_seen")),
    ProfileProperty("active_days", "number", "Days (UTC) with a trace.", "active_days"),
    ProfileProperty("traces", "number", "Traces.", "traces"),
    ProfileProperty("sessions", "number", "Distinct sessions.", "sessions"),
    ProfileProperty("failed_traces", "number", "Traces with an observation of level ERROR.", "failed_traces"),
    ProfileProperty("cost_usd", "number", "Cost of the traces in US dollars; null when none is known.", "cost_usd"),
    ProfileProperty("input_tokens", "number", "Tokens of the input, cached ones included.", "input_tokens"),
    ProfileProperty("output_tokens", "number", "Tokens of the output.", "output_tokens"),
    ProfileProperty("total_tokens", "number", "Tokens in all.", "total_tokens"),
    ProfileProperty(
        "models", "list", f"Models by number of calls, at most {MOST_ITEMS}.", "coalesce(models, []::VARCHAR[])"
    ),
    ProfileProperty("favourite_model", "string", "The model with most calls.", "models[1]"),
    ProfileProperty("last_model", "string", "The model that was called last.", "last_model"),
    ProfileProperty("agents", "list", f"Agents, at most {MOST_ITEMS}.", "agents"),
    ProfileProperty("environments", "list", f"Langfuse environments, at most {MOST_ITEMS}.", "environments"),
    ProfileProperty("source_apps", "list", "Software that wrote the traces.", "source_apps"),
    ProfileProperty("scores", "number", "Scores of the traces.", "coalesce(scores, 0)"),
    ProfileProperty(
        "score_means",
        "object",
        f"Mean of each score with numbers, by its name; the {MOST_SCORE_NAMES} most frequent ones.",
        "coalesce(score_means, MAP {}::MAP(VARCHAR, DOUBLE))",
    ),
    ProfileProperty("project_name", "string", "Name of the Langfuse project.", "project_name"),
    ProfileProperty(
        "user_url", "string", "The user in Langfuse; left out when user ids are hashed.", "user_url"
    ),
)  # fmt: skip
"""In the order in which docs/analytics-tools.md lists them."""


def profile_properties(profiles: ProfileSettings, mixpanel: MixpanelSettings) -> list[tuple[str, ProfileProperty]]:
    """Wire name and property of what is sent."""
    named = ((profiles.prefix + item.name, item) for item in PROPERTIES)
    return [(name, item) for name, item in named if _is_sent(name, item, profiles, mixpanel)]


def _is_sent(name: str, item: ProfileProperty, profiles: ProfileSettings, mixpanel: MixpanelSettings) -> bool:
    wanted = profiles.properties is None or item.name in profiles.properties
    hidden = item.name == "user_url" and (mixpanel.hash_user_ids_env or USER_URL in mixpanel.exclude_properties)
    return wanted and not hidden and name not in mixpanel.exclude_properties


def profile_statements(
    project: ProjectSettings, profiles: ProfileSettings, mixpanel: MixpanelSettings, *, salt: str | None
) -> Iterator[str]:
    """SQL that makes the temporary tables `counted` (a row per trace) and `user_profiles` (a row per distinct id).

    `counted` has distinct_id, empty for a trace that is nobody's, and user_id as the source has it. `user_profiles`
    has distinct_id, properties (a JSON object) and reason, why it cannot be sent. The text holds the salt: never log
    it.
    """
    yield f"CREATE TEMP TABLE counted AS {_counted(project, salt)}"
    yield f"CREATE TEMP TABLE trace_users AS {_TRACE_USERS}"
    yield f"CREATE TEMP TABLE user_profiles AS {_profiles(project, profiles, mixpanel)}"


def _counted(project: ProjectSettings, salt: str | None) -> str:
    """The traces whose events are sent, each with the distinct id that its event has."""
    prepared = prepared_sql(
        "mixpanel", project, protocol="import", project_id="", project_name="", host="", user_id_salt=salt
    )
    url = f"native_{USER_URL}" if project.compatibility == "native" else USER_URL
    schema = f"{ALIAS}.{identifier(project.name)}"
    return f"""
        SELECT sent.distinct_id, {", ".join(f"t.{column}" for column in _COUNTED)}, e.{url} AS user_url
        FROM ({prepared}) AS sent
        JOIN {schema}.traces AS t ON t.partition_hour = sent.hour AND t.trace_id = sent.entity_id
        JOIN {schema}.trace_events AS e ON e.partition_hour = sent.hour AND e.entity_id = sent.entity_id
        WHERE sent.kind = 'trace' AND sent.skip_reason IS NULL
    """


# A trace can have a row in two hours, far apart: its observations are counted once.
_TRACE_USERS = """
    SELECT trace_id, arg_max(distinct_id, partition_hour) AS distinct_id
    FROM counted WHERE distinct_id <> '' GROUP BY trace_id
"""


def _profiles(project: ProjectSettings, profiles: ProfileSettings, mixpanel: MixpanelSettings) -> str:
    schema = f"{ALIAS}.{identifier(project.name)}"
    members = [f"{literal(name)}: {item.sql}" for name, item in profile_properties(profiles, mixpanel)]
    members += ["'$name': distinct_id"] if profiles.name else []
    # A struct has at least one member.
    said = f"to_json({{{', '.join(members)}}})::VARCHAR" if members else "'{}'"
    return f"""
        WITH users AS ({_USERS}), models AS ({_MODELS.format(schema=schema)}),
            scored AS ({_SCORED.format(schema=schema)}), means AS ({_MEANS})
        SELECT distinct_id, {said} AS properties,
            CASE WHEN length(distinct_id) > {MAX_CHARACTERS} THEN 'invalid:distinct_id' END AS reason
        FROM users LEFT JOIN models USING (distinct_id) LEFT JOIN means USING (distinct_id)
    """


def _listed(column: str) -> str:
    """Distinct values, sorted, within Mixpanel's limits."""
    return f"list_sort(list_distinct(list(left({column}, {MAX_CHARACTERS}))))[1:{MOST_ITEMS}]"


# Sums of decimals do not depend on the order of the rows, as sums of doubles do. A cost that no trace can have, of a
# million million dollars and more, is left out, so that no sum overflows.
_USERS = f"""
    SELECT
        distinct_id,
        min(coalesce(started_at, timestamp)) AS first_seen,
        max(coalesce(ended_at, started_at, timestamp)) AS last_seen,
        count(DISTINCT (partition_hour AT TIME ZONE 'UTC')::DATE) AS active_days,
        count(DISTINCT trace_id) AS traces,
        count(DISTINCT nullif(session_id, '')) AS sessions,
        count(DISTINCT trace_id) FILTER (n_errors > 0) AS failed_traces,
        sum(TRY_CAST(total_cost AS DECIMAL(24, 12)))::DOUBLE AS cost_usd,
        TRY_CAST(sum(input_tokens) AS BIGINT) AS input_tokens,
        TRY_CAST(sum(output_tokens) AS BIGINT) AS output_tokens,
        TRY_CAST(sum(total_tokens) AS BIGINT) AS total_tokens,
        {_listed("nullif(agent_name, '')")} AS agents,
        {_listed("environment")} AS environments,
        {_listed("nullif(source_app, 'unknown')")} AS source_apps,
        left(arg_max(project_name, partition_hour), {MAX_CHARACTERS}) AS project_name,
        CASE WHEN length(max(user_url)) <= {MAX_CHARACTERS} THEN max(user_url) END AS user_url
    FROM counted
    WHERE distinct_id <> ''
    GROUP BY distinct_id
"""

_MODELS = f"""
    SELECT
        distinct_id,
        list(model ORDER BY calls DESC, model)[1:{MOST_ITEMS}] AS models,
        first(model ORDER BY last_call DESC, model) AS last_model
    FROM (
        SELECT distinct_id, left(model, {MAX_CHARACTERS}) AS model, count(*) AS calls, max(start_time) AS last_call
        FROM {{schema}}.observations JOIN trace_users USING (trace_id)
        WHERE NOT is_synthetic AND trim(model) <> ''
        GROUP BY ALL
    )
    GROUP BY distinct_id
"""

_SCORED = f"""
    SELECT
        distinct_id,
        left(name, {MAX_CHARACTERS}) AS name,
        count(*) AS n,
        count(number) AS numbers,
        round(sum(number)::DOUBLE / nullif(count(number), 0), 6) AS mean
    FROM (
        SELECT distinct_id, name, CASE WHEN data_type IN ('NUMERIC', 'BOOLEAN')
            THEN TRY_CAST(value_num AS DECIMAL(21, 9)) END AS number
        FROM {{schema}}.scores JOIN trace_users USING (trace_id)
        WHERE data_type <> 'CORRECTION'
    )
    GROUP BY ALL
"""

_MEANS = f"""
    SELECT distinct_id, sum(n)::BIGINT AS scores, map_from_entries(list((name, mean) ORDER BY numbers DESC, name)
        FILTER (numbers > 0 AND name <> '')[1:{MOST_SCORE_NAMES}]) AS score_means
    FROM scored GROUP BY distinct_id
"""
