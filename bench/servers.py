"""The servers under the bench, in a process of their own: a Langfuse that keeps its pages, and counting sinks.

Prints one JSON line of origins, then serves until its standard input closes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.worlds import World, build_store
from lf_dagster.simulators import langfuse
from lf_dagster.simulators.counting import Counts, create_mixpanel_sink, create_posthog_sink
from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.server import serve

KEYS = ("pk-lf-bench", "sk-lf-bench")
_PAGE_BYTES = 4 * 1024**3
"""Pages that were served once are kept, so that a measured read waits for the network stack alone."""
_FORM_MARK = b"%22%24insert_id%22%3A"
"""`"$insert_id":` in a form: one per event of Mixpanel's Python client."""


class FormImports:
    """A Mixpanel sink that also takes what Mixpanel's Python client sends: a form with the events in `data`."""

    def __init__(self, sink: ASGIApp, counts: Counts) -> None:
        self._sink = sink
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/import" or not _is_form(scope):
            await self._sink(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        self._counts.add(events=body.count(_FORM_MARK), wire_bytes=len(body), json_bytes=len(body))
        await json_response({"error": None, "status": 1})(scope, receive, send)


def _is_form(scope: Scope) -> bool:
    return any(name == b"content-type" and b"form-urlencoded" in value for name, value in scope["headers"])


def create_langfuse(world: World) -> Any:
    """The Langfuse server of a world."""
    store = build_store(world)
    store.project = langfuse.Project(id="proj-bench", name="Bench", keys=(langfuse.ApiKey(*KEYS),))
    app = langfuse.create_app(store, compress=False)
    app.state.server.pages.limit_bytes = _PAGE_BYTES
    return app


def main(world: str) -> None:
    counts = Counts()
    apps: dict[str, Any] = {
        "langfuse": create_langfuse(World(**json.loads(world))),
        "mixpanel": FormImports(create_mixpanel_sink(counts=counts), counts),
        "posthog": create_posthog_sink(),
    }
    running = {name: serve(app) for name, app in apps.items()}
    print(json.dumps({name: server.origin for name, server in running.items()}), flush=True)
    sys.stdin.read()
    for server in running.values():
        server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
