"""Ships a file of events with Mixpanel's Python client: `ship_mixpanel.py ORIGIN FILE [--full-batches]`.

FILE has a JSON event per line: event, properties (with time, distinct_id and $insert_id). The client puts at most 50
events into a request, whatever `max_size` says; `--full-batches` lifts that to the 2,000 that the API takes, by way of
an attribute that is not public.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from mixpanel import BufferedConsumer, Mixpanel

_MOST = 2000


def main(origin: str, name: str, *options: str) -> None:
    rows, wall, cpu = 0, time.perf_counter(), time.process_time()
    consumer = BufferedConsumer(max_size=_MOST, import_url=f"{origin}/import")
    if "--full-batches" in options:
        consumer._max_size = _MOST
    client = Mixpanel("mp-bench", consumer=consumer)
    with Path(name).open("rb") as lines:
        for line in lines:
            event = json.loads(line)
            properties = event["properties"]
            client.import_data(
                None, properties["distinct_id"], event["event"], properties["time"], properties, api_secret="bench"
            )
            rows += 1
    consumer.flush()
    facts = {
        "rows": rows,
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
