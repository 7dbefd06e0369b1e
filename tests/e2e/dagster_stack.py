"""A real Dagster: webserver and daemon as processes, driven through GraphQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.e2e.stack import REPOSITORY

T = TypeVar("T")


class Dagster:
    """A running webserver; `query` sends GraphQL and raises on errors."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._client = httpx.Client(base_url=origin, timeout=30)

    def close(self) -> None:
        self._client.close()

    def ready(self) -> bool:
        try:
            return self._client.get("/server_info").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        answer = self._client.post("/graphql", json={"query": text, "variables": variables}).json()
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"]))
        return answer["data"]


def wait_for(what: str, probe: Callable[[], T | None], *, seconds: float = 90) -> T:
    """The first true answer of `probe`, asked twice a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.5)
    raise TimeoutError(f"{what} did not happen within {seconds} s")


@contextmanager
def running_dagster(
    environment: Mapping[str, str], logs: Path, *, workspace: Path = REPOSITORY / "workspace.yaml"
) -> Iterator[Dagster]:
    """Webserver and daemon on a workspace (this repository's); every process of theirs ends with the block."""
    port = _free_port()
    env = {**{k: os.environ[k] for k in ("PATH", "HOME", "LANG") if k in os.environ}, **environment}
    _create_instance(env)
    loaded = ["-w", str(workspace)]
    commands = {
        "webserver": ["dagster-webserver", *loaded, "-h", "127.0.0.1", "-p", str(port)],
        "daemon": ["dagster-daemon", "run", *loaded],
    }
    processes = [_start(arguments, env, logs / f"{name}.log") for name, arguments in commands.items()]
    dagster = Dagster(f"http://127.0.0.1:{port}")
    try:
        wait_for("the webserver", dagster.ready)
        yield dagster
    finally:
        dagster.close()
        for process in processes:
            _stop(process)


def _create_instance(env: Mapping[str, str]) -> None:
    """Two processes that create Dagster's SQLite files at the same moment get in each other's way."""
    script = "import dagster; dagster.DagsterInstance.get().get_runs(limit=1)"
    subprocess.run([sys.executable, "-c", script], env=dict(env), check=True, capture_output=True)


def _start(arguments: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name(arguments[0]))
    with log.open("wb") as out:
        # A session of its own: run workers are children of the code server and would outlive their parents.
        return subprocess.Popen(
            [program, *arguments[1:]], env=env, cwd=REPOSITORY, stdout=out, stderr=out, start_new_session=True
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    process.wait(timeout=10)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
