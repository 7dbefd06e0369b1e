"""Ships a file of events with PostHog's Python client: `ship_posthog.py ORIGIN FILE`.

FILE has a JSON event per line: event, distinct_id, properties, timestamp, uuid. The client runs as it does by itself (a
thread that sends batches), but with a queue that holds all events: at its own size it would drop what it cannot send
as fast as it is read.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from posthog import Posthog


def main(origin: str, name: str) -> None:
    file = Path(name)
    with file.open("rb") as lines:
        most = sum(1 for _ in lines)
    rows, wall, cpu = 0, time.perf_counter(), time.process_time()
    client = Posthog("phc_bench", host=origin, sync_mode=False, max_queue_size=most + 1)
    with file.open("rb") as lines:
        for line in lines:
            event = json.loads(line)
            client.capture(
                event["event"],
                distinct_id=event["distinct_id"],
                properties=event["properties"],
                timestamp=event["timestamp"],
                uuid=event["uuid"],
            )
            rows += 1
    client.flush(timeout_seconds=None)
    facts = {
        "rows": rows,
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    client.shutdown()
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
