"""The daemon as a process that is killed: SIGKILL at random moments, to the run worker or to everything at once.

`python -m bench.fidelity.killer FILE BEGAN` is that process. It reads one ISO time per line (followed by `sense` when
the sensor is to be asked), does the tick of that time and answers `done`. It forks for every piece of work and stays
small itself, so that a fork is a fresh worker with the product already imported; `worker PID` announces each.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bench.fidelity.speed import hurry

_LONGEST_DELAY_SECONDS = 4.0
_READY_SECONDS = 60


class KilledDaemon:
    """A daemon in another process, which dies in a share of its ticks and is started again."""

    def __init__(self, file: Path, began: datetime, *, seed: int, share: float) -> None:
        self.file = file
        self.began = began
        self.kills = 0
        self._chance = random.Random(f"kills/{seed}")
        self._share = share
        self._worker: int | None = None
        self._process = self._start()

    def tick(self, now: datetime, *, sense: bool = True) -> None:
        """The tick of that time; a process that dies in it is started again and told again."""
        while True:
            with self._assassin():
                done = self._ask(f"{now.isoformat()} {'sense' if sense else ''}")
            if done:
                return
            self._process = self._start()

    def sleep_through(self, now: datetime) -> None:
        """The daemon was down until now. Between ticks the process is idle, so its file may be written here."""
        from bench.fidelity.daemon import State

        if self.file.exists():
            state = State.read(self.file)
            state.last = now.isoformat()
            state.write(self.file)

    def close(self) -> None:
        _kill_group(self._process)

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", __name__, str(self.file), self.began.isoformat()]
        # A group of its own, so that one signal reaches the process and its worker.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        if _line(process) != "ready":
            raise RuntimeError("the daemon process did not start")
        return process

    def _ask(self, what: str) -> bool:
        """Whether the process lived to say that the tick is done. Raises RuntimeError when it failed by itself."""
        try:
            print(what, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return False
        while line := _line(self._process):
            word, _, pid = line.partition(" ")
            if word == "done":
                return True
            self._worker = int(pid) if word == "worker" else None
        self._worker = None
        if self._process.wait(timeout=_READY_SECONDS) != -signal.SIGKILL:
            raise RuntimeError("the daemon process failed; see above")
        return False

    @contextmanager
    def _assassin(self) -> Iterator[None]:
        if self._chance.random() >= self._share:
            yield
            return
        everything = self._chance.random() < 0.5
        timer = threading.Timer(self._chance.uniform(0, _LONGEST_DELAY_SECONDS), self._strike, (everything,))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _strike(self, everything: bool) -> None:
        worker = self._worker
        if everything:
            self.kills += 1
            _kill_group(self._process)
        elif worker is not None:
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.kills += 1


def _kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise RuntimeError("no pipe to the daemon process")
    return process.stdout.readline().strip()


def _forked(work: Callable[[], None]) -> None:
    """Do some work in a fork. That it was killed is for the next tick to find; that it failed is an error."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the fork ends here, whatever happened
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(f"worker {pid}", flush=True)
    _, status = os.waitpid(pid, 0)
    print("idle", flush=True)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError("a worker failed; see above")


def main(file: Path, began: datetime) -> None:
    hurry()
    from bench.fidelity.daemon import Daemon

    class ForkingDaemon(Daemon):
        def apart(self, work: Callable[[], None]) -> None:
            _forked(work)

    daemon = ForkingDaemon(file, began)
    print("ready", flush=True)
    for line in sys.stdin:
        now, _, sense = line.strip().partition(" ")
        daemon.tick(datetime.fromisoformat(now), sense=bool(sense))
        print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]))
