"""Serve a stand-in: in this process for good, or in a thread for as long as a test needs it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn
import uvloop

from sandbox.asgi import App

HOST = "127.0.0.1"


def config(app: App, **options: object) -> uvicorn.Config:
    settings: dict[str, object] = {
        "host": HOST,
        "loop": "uvloop",
        "http": "httptools",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "ws": "none",
        "backlog": 4096,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": 2,
        **options,
    }
    return uvicorn.Config(app, **settings)  # type: ignore[arg-type]


def run(app: App, *, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    uvicorn.Server(config(app, port=port)).run()


class ThreadedServer(uvicorn.Server):
    """A server in a thread: signals are the main thread's affair."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        self.ready.set()

    async def main_loop(self) -> None:
        """Until told to leave; uvicorn looks every tenth of a second, and tests end hundreds."""
        await self._leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which again looks every tenth of a second for what has not ended yet."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_ended(), self.config.timeout_graceful_shutdown)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()

    async def _all_ended(self) -> None:
        state = self.server_state  # which tells nobody when it changes
        while state.connections or state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        for server in self.servers:
            await server.wait_closed()

    def leave(self) -> None:
        """End it, from another thread. Calling it again, or too late, changes nothing."""
        self.should_exit = True
        if self.ready.is_set():
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._leave.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served(app: App) -> Iterator[str]:
    """Serve the app on a free port, in a thread, and give its base URL."""
    listener = socket.create_server((HOST, 0))
    server = ThreadedServer(config(app, timeout_graceful_shutdown=1))
    thread = threading.Thread(
        target=lambda: uvloop.run(server.serve([listener])), name="stand-in", daemon=True
    )
    thread.start()
    try:
        if not server.ready.wait(10):
            raise RuntimeError("the stand-in did not start")
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        server.leave()
        thread.join(10)
        listener.close()
