"""The servers under the bench, in a process of their own: pre-rendered pages and counting sinks.

Prints one JSON line of origins, then serves until its standard input closes.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

from lf_dagster.simulators import langfuse
from lf_dagster.simulators.counting import create_mixpanel_sink, create_posthog_sink
from lf_dagster.simulators.server import serve
from lf_dagster.simulators.world import bulk_store

KEYS = ("pk-lf-bench", "sk-lf-bench")


def main(hour: str, observations: str) -> None:
    store = bulk_store(hour=datetime.fromisoformat(hour), observations=int(observations))
    store.project = langfuse.Project(id="proj-bench", name="Bench", keys=(langfuse.ApiKey(*KEYS),))
    apps = {
        "langfuse": langfuse.create_app(store, compress=False),
        "mixpanel": create_mixpanel_sink(),
        "posthog": create_posthog_sink(),
    }
    running = {name: serve(app) for name, app in apps.items()}
    print(json.dumps({name: server.origin for name, server in running.items()}), flush=True)
    sys.stdin.read()
    for server in running.values():
        server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
