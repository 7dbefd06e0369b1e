"""Projects whose events can be prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from lf_dagster.events import PAYLOAD_SQL, prepared_sql, run_events
from lf_dagster.hours import Hour
from lf_dagster.warehouse import ModelRun
from tests.warehouse.extracts import NOW, Project

HOST = "http://localhost:13000"


class EventProject(Project):
    """A project with typed and event tables."""

    def run_events(self, hours: Sequence[Hour], *, run_id: str = "run") -> ModelRun:
        return run_events(
            self.warehouse,
            self.settings,
            project_id="proj-lf",
            project_name="LF Project",
            host=HOST,
            hours=hours,
            run_id=run_id,
            now=NOW,
        )

    def run_all(self, hours: Sequence[Hour]) -> None:
        self.run(hours)
        self.run_events(hours)

    def prepared(
        self, destination: Any = "mixpanel", protocol: Any = "import", *, salt: str | None = None, where: str = "true"
    ) -> list[dict[str, Any]]:
        """What a destination would be sent."""
        sql = prepared_sql(
            destination,
            self.settings,
            protocol=protocol,
            project_id="proj-lf",
            project_name="LF Project",
            host=HOST,
            user_id_salt=salt,
        )
        return self.query(f"SELECT *, {PAYLOAD_SQL} AS payload FROM ({sql}) WHERE {where}")

    @contextmanager
    def changing_tables(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that writes into the project's schema."""
        with self.warehouse.connect() as con:
            con.execute(f"SET search_path = 'warehouse.{self.settings.name}'")
            yield con
