"""The outside world of a simulated week: one Langfuse, and both destinations once per contestant, on virtual time."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from bench.fidelity.clock import VirtualClock
from bench.fidelity.compare import Held
from bench.fidelity.truth import Destination
from lf_dagster.simulators import langfuse, mixpanel, posthog
from lf_dagster.simulators.faults import ADMIN_PREFIX, FaultQueue
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.posthog.timestamps import SECOND
from lf_dagster.simulators.server import serve

KEYS = langfuse.ApiKey("pk-lf-fidelity", "sk-lf-fidelity")
TOKENS: dict[Destination, str] = {"mixpanel": "mp-fidelity", "posthog": "phc_fidelity"}
DESTINATIONS: tuple[Destination, ...] = ("mixpanel", "posthog")
_REPOSITORY = Path(__file__).parents[2]


class Meter:
    """Counts the requests that reach an application, by virtual moment and path."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float]) -> None:
        self._app = app
        self._clock = clock
        self.requests: Counter[tuple[float, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(ADMIN_PREFIX):
            self.requests[self._clock(), scope["path"]] += 1
        await self._app(scope, receive, send)


class Arrivals:
    """The clock of a destination: a little later with each request, although virtual time stands still between steps.

    PostHog keeps, of two copies that arrive in one second, either one. Runs that follow each other at one stop of the
    clock would share a second, which they would not in real time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stopped_at = clock()
        self._requests = 0

    def __call__(self) -> float:
        return self._stopped_at + self._requests

    def count(self) -> None:
        """A request arrives."""
        now = self._clock()
        self._requests = self._requests + 1 if now == self._stopped_at else 0
        self._stopped_at = now


class Announced:
    """An application that counts its requests on its clock."""

    def __init__(self, app: ASGIApp, arrivals: Arrivals) -> None:
        self._app = app
        self._arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._arrivals.count()
        await self._app(scope, receive, send)


@dataclass
class Receiver:
    """A destination of one contestant."""

    destination: Destination
    app: Any
    origin: str

    @property
    def faults(self) -> FaultQueue:
        return self.app.state.faults

    def held(self) -> list[Held]:
        """What a report there would count: Mixpanel's query view, PostHog after its merges."""
        if self.destination == "mixpanel":
            return [
                Held(item.event, item.insert_id, item.time_ms, item.distinct_id, item.properties)
                for item in self.app.state.standin.store.stored("query")
            ]
        return [
            Held(item.event, item.uuid, item.timestamp * 1000 // SECOND, item.distinct_id, item.properties)
            for item in self.app.state.standin.store.stored("merged")
        ]


@dataclass
class Outside:
    """The running stand-ins. `ours` and `native`: the destinations of the two contestants."""

    langfuse: Any
    origin: str
    meter: Meter
    ours: dict[Destination, Receiver]
    native: dict[Destination, Receiver]

    def environment(self, folder: Path, *, start_key: str, clock: VirtualClock) -> dict[str, str]:
        """Variables of the shipped project, with its data and Dagster's history below `folder`."""
        home = folder / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(_REPOSITORY / "dagster.yaml", home)
        return {
            "LANGFUSE_HOST": self.origin,
            "LANGFUSE_PUBLIC_KEY": KEYS.public,
            "LANGFUSE_SECRET_KEY": KEYS.secret,
            "LANGFUSE_START": start_key,
            "MIXPANEL_PROJECT_TOKEN": TOKENS["mixpanel"],
            "MIXPANEL_HOST": self.ours["mixpanel"].origin,
            "POSTHOG_API_KEY": TOKENS["posthog"],
            "POSTHOG_HOST": self.ours["posthog"].origin,
            "LF_DAGSTER_DATA": str(folder / "data"),
            "LF_DAGSTER_CLOCK": str(clock.file),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }


@contextmanager
def outside_world(store: Store, clock: VirtualClock) -> Iterator[Outside]:
    """Serves all stand-ins until the block ends."""
    with ExitStack() as running:
        source = langfuse.create_app(store, clock=clock)
        meter = Meter(source, clock)
        origin = running.enter_context(serve(meter)).origin
        ours, native = (_receivers(clock, running) for _ in range(2))
        yield Outside(source, origin, meter, ours, native)


def _receivers(clock: VirtualClock, running: ExitStack) -> dict[Destination, Receiver]:
    return {name: _receiver(name, clock, running) for name in DESTINATIONS}


def _receiver(name: Destination, clock: VirtualClock, running: ExitStack) -> Receiver:
    arrivals = Arrivals(clock)
    if name == "mixpanel":
        app = mixpanel.create_app(tokens={TOKENS[name]: 1}, clock=arrivals)
    else:
        app = posthog.create_app(tokens={TOKENS[name]: 1}, clock=arrivals)
    return Receiver(name, app, running.enter_context(serve(Announced(app, arrivals))).origin)
