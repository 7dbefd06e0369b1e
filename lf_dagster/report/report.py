"""A report as one HTML file that needs nothing else, and as a small picture."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any

from lf_dagster.config import ProjectSettings, secret
from lf_dagster.report.charts import css_variable
from lf_dagster.report.figures import figures
from lf_dagster.report.parts import Part
from lf_dagster.report.period import Period
from lf_dagster.report.preview import preview_png
from lf_dagster.report.queries import Numbers, read_numbers
from lf_dagster.report.sections import sections, user_names
from lf_dagster.warehouse import Warehouse


@dataclass(frozen=True)
class Report:
    """The numbers of a project's period, and how they are shown."""

    project: str
    made_at: datetime
    numbers: Numbers
    salt: str | None = field(default=None, repr=False)

    @property
    def html(self) -> str:
        """The page: styles and drawings inside, no script, no address of anything outside."""
        return _environment().get_template("report.html.j2").render(
            report=self,
            numbers=self.numbers,
            title=f"{self.project}: LLM report, {self.numbers.period}",
            period=str(self.numbers.period),
            made_at=f"{self.made_at:%Y-%m-%d %H:%M} UTC",
            coverage=self.coverage,
            nothing=self.nothing,
            figures=figures(self.numbers),
            sections=sections(self.numbers, user_names(self.salt)),
            users_note=_HASHED if self.salt else _CLEAR,
            css=_css(),
        )  # fmt: skip

    @property
    def png(self) -> bytes:
        """The key figures and four charts."""
        return preview_png(self.project, self.numbers)

    @property
    def coverage(self) -> str:
        hours = len(self.numbers.period.hours)
        return f"{self.numbers.modelled} of {hours} hours are in the warehouse"

    @property
    def nothing(self) -> str | None:
        """Why the whole page is empty; None when it is not."""
        now = self.numbers["kpis"][0]
        if now["traces"] or now["observations"] or now["scores"]:
            return None
        if not self.numbers.modelled:
            return "None of these days' hours is in the warehouse yet: run them with lf-dagster sync or in Dagster."
        return "These hours were run, and Langfuse had no traces and no scores in them."


_CLEAR = "User ids are shown as the application sent them."
_HASHED = (
    "User ids are hashed for a destination of this project, so here too: what is shown is the beginning of the hash "
    "that the destination has."
)


def build_report(settings: ProjectSettings, warehouse: Warehouse, period: Period, *, now: datetime) -> Report:
    """Read the numbers of a period. The warehouse is held while the queries run, and not while anything is drawn.

    Where user ids are hashed for a destination they are in the report too, with that one's salt. Raises ConfigError
    when nothing of the project was ever modelled or the salt's variable is not set, WarehouseLocked.
    """
    variables = [each.hash_user_ids_env for each in settings.destinations.values() if each.hash_user_ids_env]
    salt = secret(variables[0]) if variables else None
    return Report(settings.name, now, read_numbers(warehouse, settings.name, period), salt)


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lf_dagster.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_variable"] = css_variable
    environment.globals["kind"] = _kind
    return environment


def _kind(part: Part) -> str:
    return type(part).__name__.lower()


def _css() -> str:
    return resources.files("lf_dagster.report").joinpath("page/report.css").read_text()
