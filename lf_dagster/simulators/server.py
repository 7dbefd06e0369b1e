"""Runs a stand-in on 127.0.0.1: in a thread for tests and the demo, or blocking for a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import uvicorn
from typing_extensions import Self

_START_TIMEOUT_SECONDS = 10.0
_STOP_TIMEOUT_SECONDS = 10.0
_TICK_SECONDS = 1.0
"""How often the `Date` of answers is renewed."""


class ServerError(RuntimeError):
    """A stand-in could not be started or stopped in time."""


class _Server(uvicorn.Server):
    """Ends as soon as it is told to; uvicorn's own loop looks ten times a second, which a thousand tests wait for."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self) -> None:
        """Let it end; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            # It may have ended by itself.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._told.wait(), _TICK_SECONDS)


class RunningServer:
    """A stand-in served by uvicorn in a thread of its own; usable as a context manager.

    The socket is bound before the thread starts, so `origin` is right at once and port 0 takes any free port.
    """

    def __init__(self, app: Any, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.app = app
        self._socket = _bind(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        self._server = _Server(_uvicorn_config(app))
        self._thread = threading.Thread(target=self._run, name=f"stand-in-{self.port}", daemon=True)

    @property
    def origin(self) -> str:
        """Base URL without a trailing slash, such as `http://127.0.0.1:40123`."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Start serving and wait until the server accepts requests. Raises ServerError when it does not come up."""
        self._thread.start()
        _wait_until_started(self._server, self._thread)
        return self

    def stop(self) -> None:
        """Stop serving, cut what is still open, and free the port. Safe to call twice."""
        self.tell()
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_SECONDS)
        self._socket.close()
        if self._thread.is_alive():
            raise ServerError(f"the stand-in at {self.origin} did not stop in {_STOP_TIMEOUT_SECONDS} s")

    def tell(self) -> None:
        """Begin to stop, without waiting for it; `stop` does."""
        self._server.tell()

    def __enter__(self) -> Self:
        return self if self._thread.is_alive() else self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def serve(app: Any, *, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
    """Serve an ASGI app in a thread; returns once it answers. Use with `with`, or call `stop()`."""
    return RunningServer(app, host=host, port=port).start()


@contextlib.contextmanager
def serve_all(apps: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The origins of some apps by name, served side by side until the block ends."""
    with contextlib.ExitStack() as running:
        servers = {name: running.enter_context(serve(app)) for name, app in apps.items()}
        try:
            yield {name: server.origin for name, server in servers.items()}
        finally:
            for server in servers.values():
                server.tell()


def serve_forever(apps: Sequence[tuple[Any, str, int]]) -> None:
    """Serve several `(app, host, port)` side by side until interrupted (Ctrl-C)."""
    running: list[RunningServer] = []
    try:
        running.extend(serve(app, host=host, port=port) for app, host, port in apps)
        wait_forever(running)
    finally:
        for server in running:
            server.stop()


def wait_forever(running: Sequence[RunningServer]) -> None:
    """Block until the process is interrupted or one of the servers ends by itself."""
    stopped = threading.Event()
    try:
        while all(server._thread.is_alive() for server in running):
            stopped.wait(0.5)
    except KeyboardInterrupt:
        return


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        raise ServerError(f"cannot listen on {host}:{port}: {error}") from error
    return bound


def _uvicorn_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="critical",
        lifespan="off",
        ws="none",
        timeout_keep_alive=30,
        # Injected delays and hung bodies must not hold up the end of a test.
        timeout_graceful_shutdown=1,
    )


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    pause = threading.Event()
    for _ in range(int(_START_TIMEOUT_SECONDS / 0.005)):
        if server.started:
            return
        if not thread.is_alive():
            break
        pause.wait(0.005)
    raise ServerError("the stand-in did not start")
