"""One hour as a run of its own: `python -m bench.launch MODULE JOB HOUR`, in the instance that DAGSTER_HOME names.

`dagster job launch` hands the run to the instance's launcher, which starts a worker process. Prints JSON:
`launch_seconds` from the launch to the end of the run, `command_seconds` from the start of the command, which also
starts a code server. Fails unless the run succeeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import dagster as dg

_POLL_SECONDS = 0.05
_TIMEOUT_SECONDS = 300.0


def main(module: str, job: str, hour: str) -> None:
    run_id, began = str(uuid.uuid4()), time.time()
    tags = json.dumps({"dagster/partition": hour})
    command = [str(Path(sys.executable).with_name("dagster")), "job", "launch", "-m", module, "-j", job]
    with dg.DagsterInstance.get() as instance:
        subprocess.run([*command, "--tags", tags, "--run-id", run_id], check=True, capture_output=True)
        ended = _wait(instance, run_id, began + _TIMEOUT_SECONDS)
        [starting] = instance.all_logs(run_id, of_type=dg.DagsterEventType.PIPELINE_STARTING)
    facts = {"launch_seconds": ended - starting.timestamp, "command_seconds": ended - began}
    print(json.dumps(facts))


def _wait(instance: dg.DagsterInstance, run_id: str, deadline: float) -> float:
    """Epoch seconds at which the run ended well."""
    while time.time() < deadline:
        record = instance.get_run_record_by_id(run_id)
        if record is not None and record.dagster_run.is_finished and record.end_time:
            if not record.dagster_run.is_success:
                raise SystemExit(f"the run of {run_id} ended as {record.dagster_run.status.value}")
            return record.end_time
        time.sleep(_POLL_SECONDS)
    raise SystemExit(f"the run did not end within {_TIMEOUT_SECONDS:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
