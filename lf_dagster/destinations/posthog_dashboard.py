"""A dashboard over our events in PostHog, made through its private API, and kept up to date.

What was made before is found again by a tag or, where the plan has no tags, by the same text in its description. Only
what differs is written, and nothing that somebody else made: tiles of others, names and layouts stay (contracts:
posthog 13).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from typing_extensions import Self

from lf_dagster.config import PosthogSettings, ProjectSettings, secret
from lf_dagster.destinations.addresses import app_origin
from lf_dagster.destinations.management import RETRY, TIMEOUT_SECONDS, ManagementApi, project_number
from lf_dagster.destinations.posthog_insights import Insight, insights
from lf_dagster.errors import ConfigError
from lf_dagster.http import HttpClient, RetryPolicy

State = Literal["new", "changed", "current"]
Row = dict[str, Any]
_PAGE = 100
_MOST_PAGES = 200


@dataclass(frozen=True)
class Tile:
    """One insight and how it stands to what PostHog has; `id` where it has it, with the dashboards that show it."""

    insight: Insight
    state: State
    id: int | None = None
    dashboards: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What there is and what there should be; `dashboard` is None until it was made."""

    dashboard: int | None
    tiles: list[Tile]


class PosthogDashboards:
    """Dashboards of one PostHog project. Use as a context manager.

    Raises ConfigError when the project's number or the personal API key is not set, or not what it should be.
    """

    def __init__(
        self,
        settings: ProjectSettings,
        *,
        env: Mapping[str, str] = os.environ,
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        posthog = _posthog(settings)
        number = project_number(
            posthog.project_id,
            setting="posthog.project_id",
            variable="POSTHOG_PROJECT_ID",
            where="PostHog, Settings, Project, General",
        )
        key = _personal_key(posthog, env)
        self.origin = app_origin(posthog)
        self.project = number
        self._path = f"/api/projects/{number}"
        self._http = HttpClient(
            self.origin,
            auth=f"Bearer {key}",
            secrets=[key],
            timeout=TIMEOUT_SECONDS,
            retry=retry or RETRY,
            sleep=sleep,
            setting="posthog.api_host",
        )
        self._api = ManagementApi(
            self._http,
            "PostHog",
            access="The personal API key needs the scopes dashboard:write and insight:write, for this project: "
            "PostHog, Settings, Personal API keys.",
            address="Check posthog.api_host: the address at which you open PostHog.",
            project="Check posthog.project_id, and posthog.api_host: US and EU have projects of their own.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def compare(self) -> Comparison:
        """What PostHog has now beside what it should have."""
        there = self._list("dashboards")
        dashboard = next((row["id"] for row in there if _is_marked(row, self._mark())), None)
        known = {row["id"] for row in there}
        held = [
            {**row, "dashboards": sorted(known.intersection(row.get("dashboards") or ()))}
            for row in self._list("insights")
        ]
        return Comparison(dashboard, [self._tile(insight, held, dashboard) for insight in insights(self._settings)])

    def publish(self, found: Comparison) -> int:
        """Makes what is missing and changes what differs; returns the dashboard's id."""
        dashboard = found.dashboard
        if dashboard is None:
            dashboard = self._write("POST", "dashboards", None, {**self._own(), "name": self._name(), "pinned": False})
        for tile in found.tiles:
            if tile.state == "new":
                values = {"name": tile.insight.name, "dashboards": [dashboard], "saved": True}
                self._write("POST", "insights", None, {**values, **self._content(tile.insight)})
            elif tile.state == "changed":
                shown_on = sorted({*tile.dashboards, dashboard})
                self._write("PATCH", "insights", tile.id, {"dashboards": shown_on, **self._content(tile.insight)})
        return dashboard

    def address(self, dashboard: int) -> str:
        """Where a person opens it."""
        return f"{self.origin}/project/{self.project}/dashboard/{dashboard}"

    def _tile(self, insight: Insight, held: list[Row], dashboard: int | None) -> Tile:
        row = next((row for row in held if _is_marked(row, self._mark(insight))), None)
        if row is None:
            return Tile(insight, "new")
        shown_on = tuple(row["dashboards"])
        wanted = {"description": self._described(insight), "query": insight.query}
        # The server adds defaults of its own to a query, and people add filters; neither is undone.
        current = dashboard in shown_on and _holds(row, wanted)
        return Tile(insight, "current" if current else "changed", row["id"], shown_on)

    def _content(self, insight: Insight) -> Row:
        mark = self._mark(insight)
        return {"description": self._described(insight), "query": insight.query, "tags": [mark]}

    def _described(self, insight: Insight) -> str:
        return f"{insight.description} ({self._mark(insight)})"

    def _own(self) -> Row:
        text = f"Adoption, cost, speed, feedback and errors, by events from Langfuse. ({self._mark()})"
        return {"description": text, "tags": [self._mark()]}

    def _mark(self, insight: Insight | None = None) -> str:
        return f"lf_dagster:{self._settings.name}" + (f":{insight.key}" if insight else "")

    def _name(self) -> str:
        return f"Langfuse: {self._settings.name}"

    def _write(self, method: str, what: str, number: int | None, values: Row) -> int:
        path = f"{self._path}/{what}/" + (f"{number}/" if number is not None else "")
        # What an answer that got lost has made is found by the next run; a repetition would make it twice.
        answer = self._api.call(method, path, endpoint=what, body=values, repeatable=method != "POST")
        if not (isinstance(answer, dict) and isinstance(answer.get("id"), int)):
            raise self._api.odd(what)
        return answer["id"]

    def _list(self, what: str) -> list[Row]:
        """All rows, page by page: by our own numbers, since `next` may name an address inside a cluster."""
        found: list[Row] = []
        for page in range(_MOST_PAGES):
            params = {"limit": _PAGE, "offset": page * _PAGE}
            answer = self._api.call("GET", f"{self._path}/{what}/", endpoint=what, params=params)
            rows = answer.get("results") if isinstance(answer, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
                raise self._api.odd(what)
            found += [row for row in rows if not row.get("deleted")]
            if not answer.get("next"):
                break
        return found


def _is_marked(row: Row, mark: str) -> bool:
    return mark in (row.get("tags") or ()) or f"({mark})" in (row.get("description") or "")


def _holds(there: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; objects may have more."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_holds(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(_holds, there, wanted))
    return there == wanted


def _posthog(settings: ProjectSettings) -> PosthogSettings:
    if settings.posthog is None:
        raise ConfigError(f"project {settings.name} has no PostHog", hint="Set POSTHOG_API_KEY, or `posthog` in YAML.")
    if settings.posthog.llm_analytics == "instead":
        raise ConfigError(
            f"project {settings.name} sends none of the events that the dashboard shows (llm_analytics: instead)",
            hint="PostHog's LLM analytics has dashboards of its own; with llm_analytics: beside there is this one too.",
        )
    return settings.posthog


def _personal_key(posthog: PosthogSettings, env: Mapping[str, str]) -> str:
    key = secret(posthog.personal_api_key_env, env=env)
    if not key.startswith("phx_") or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"environment variable {posthog.personal_api_key_env} does not hold a personal API key (phx_...)",
            hint="Make one with the scopes dashboard:write and insight:write: PostHog, Settings, Personal API keys.",
        )
    return key
