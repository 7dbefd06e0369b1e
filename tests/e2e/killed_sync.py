"""`killed_sync.py N ARGS...`: runs `lf-dagster ARGS` and SIGKILLs itself at the N-th call into its working parts.

N = 0 kills nothing and prints how many calls there were.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import lf_dagster

PARTS = tuple(
    str(Path(lf_dagster.__file__).parent / part)
    for part in ("source", "lake", "warehouse", "events", "destinations", "assets")
)
deadly = int(sys.argv[1])
calls = count(1)
seen = 0


def profile(frame: FrameType, event: str, argument: Any) -> None:
    global seen
    if event == "call" and frame.f_code.co_filename.startswith(PARTS) and frame.f_code.co_name != "<module>":
        seen = next(calls)
        if seen == deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def run() -> None:
    from lf_dagster.cli import main

    sys.argv = ["lf-dagster", *sys.argv[2:]]
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        main()
    finally:
        sys.setprofile(None)
        if deadly == 0:
            print(f"calls: {seen}")  # noqa: T201 - the answer


run()
