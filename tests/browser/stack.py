"""Dagster with its webserver and daemon on two projects, each with stand-ins of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from bench.fidelity.compare import Tally, compare
from bench.fidelity.standins import DESTINATIONS, Receiver
from bench.fidelity.truth import INTERNAL_ENVIRONMENTS, expected, facts
from lf_dagster.hours import Hour
from lf_dagster.simulators.langfuse.store import Project, Store
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world
from tests.e2e.dagster_stack import Dagster, running_dagster
from tests.e2e.stack import REPOSITORY, StandIns, run_cli, stand_ins

DAYS = 3
"""How long ago the worlds began: long enough for their hours to be history, which is never late."""
HOURS = 12
"""Hours in which the worlds have traces."""
SHIPPED = 8
"""First hours of the support project that are at its destinations when the tests begin; Mixpanel refused many events
of the last one."""


@dataclass
class Stack:
    """What runs. `first` is the first hour of both worlds."""

    dagster: Dagster
    shop: StandIns
    support: StandIns
    store: Store
    first: Hour

    @property
    def last(self) -> Hour:
        """The last hour of the support project that was shipped; Mixpanel refused many of its events."""
        return self.first.shift(SHIPPED - 1)

    def held_by_support_posthog(self, hour: Hour) -> int:
        """Events of an hour."""
        held = Receiver("posthog", self.support.posthog, "").held()
        return sum(
            hour.start <= datetime.fromtimestamp(event.time_ms / 1000, timezone.utc) < hour.end for event in held
        )

    def going_on(self, hours: int) -> int:
        """Traces of the shop that begin in its first hours and go on after them."""
        end_ms = int(self.first.shift(hours).start.timestamp() * 1000)
        rows = self.store.visible_observations(_now_ms()).versions
        own = [row for row in rows if row.data["environment"] not in INTERNAL_ENVIRONMENTS]
        begun, later = ({row.trace_id for row in own if (row.event_ms < end_ms) is early} for early in (True, False))
        return len(begun & later)

    def shop_destinations(self, hours: int) -> dict[str, Tally]:
        """What the destinations of the shop hold, beside what its first hours ought to give."""
        from_ms, to_ms = (int(hour.start.timestamp() * 1000) for hour in (self.first, self.first.shift(hours)))
        found = facts(self.store, _now_ms(), from_ms=from_ms, to_ms=to_ms)
        apps = {"mixpanel": self.shop.mixpanel, "posthog": self.shop.posthog}
        return {
            name: compare(expected(found, name, self.store.project.id), Receiver(name, apps[name], "").held())
            for name in DESTINATIONS
        }


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """The stack, with its data below `folder`."""
    first = Hour.containing(datetime.now(timezone.utc) - timedelta(days=DAYS))
    stores = [_store(first, name, seed) for seed, name in ((11, "Shop assistant"), (12, "Support desk"))]
    with stand_ins(stores[0]) as shop, stand_ins(stores[1]) as support:
        environment = shop.environment(
            folder,
            LANGFUSE_START=first.key,
            PYTHONPATH=str(REPOSITORY),
            **{f"SUPPORT_{name.upper()}_HOST": origin for name, origin in support.origins.items()},
        )
        _ship(environment, first, first.shift(SHIPPED - 1))
        _refuse_generations(support)
        _ship(environment, first.shift(SHIPPED - 1), first.shift(SHIPPED), exit_code=3)
        workspace = Path(__file__).with_name("workspace.yaml")
        with running_dagster(environment, folder, workspace=workspace) as dagster:
            yield Stack(dagster, shop, support, stores[0], first)


def _now_ms() -> int:
    return int(datetime.now(timezone.utc).timestamp() * 1000)


def _store(first: Hour, name: str, seed: int) -> Store:
    project = Project(id=f"proj-{seed}", name=name)
    settings = WorldSettings(
        seed=seed, start=first.start, hours=HOURS, traces_per_hour=20, ageing=Ageing.none(), project=project
    )
    return build_world(settings).store


def _ship(environment: dict[str, str], begin: Hour, end: Hour, *, exit_code: int = 0) -> None:
    """Ships hours of the support project from the command line, `end` not included."""
    module = f"{__package__}.two_projects"
    done = run_cli(
        ["sync", "--from", begin.key, "--to", end.key, "-p", "support", "-m", module], environment, REPOSITORY
    )
    assert done.returncode == exit_code, done.stdout + done.stderr


def _refuse_generations(project: StandIns) -> None:
    """From now on Mixpanel refuses what has more properties than a trace has."""
    standin = project.mixpanel.state.standin
    standin.limits = type(standin.limits)(properties=26)
