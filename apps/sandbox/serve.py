"""Puts a sandbox on a loopback port: as a whole program, or for the length of a `with` block in a thread."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from .app import create_sandbox
from .cut import Severable
from .errors import SandboxPortError
from .settings import SandboxSettings

BACKLOG: Final = 128
START_S_MAX: Final = 30.0


class SandboxServer(uvicorn.Server):
    """A uvicorn server that says when it has begun to listen."""

    def __init__(self, settings: SandboxSettings, *, when_listening: Callable[[], None]) -> None:
        config = uvicorn.Config(
            Severable(create_sandbox(settings)),
            loop="asyncio",  # aiosmtpd's STARTTLS reaches into asyncio's own transports
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._when_listening = when_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._when_listening()


def bind(settings: SandboxSettings) -> socket.socket:
    """Take the port; loopback is certain, because settings with another host cannot exist."""
    is_v6 = ":" in settings.host
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    listener = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, settings.port))
    except OSError as error:
        listener.close()
        raise SandboxPortError(settings.port, reason=error.strerror or str(error)) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Say where a listener can be called."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(settings: SandboxSettings, *, announce: Callable[[str], None]) -> None:
    """Serve until a signal comes."""
    with bind(settings) as listener:
        SandboxServer(settings, when_listening=lambda: announce(url_of(listener))).run(sockets=[listener])


@contextlib.contextmanager
def serving(settings: SandboxSettings) -> Iterator[str]:
    """Serve in a thread for the length of the block; gives the base URL.

    >>> with serving(SandboxSettings(seed=7)) as url:  # doctest: +SKIP
    ...     httpx2.get(f"{url}/tmdb/3/movie/now_playing", headers={"Authorization": "Bearer any"})
    """
    listening = threading.Event()
    with bind(settings) as listener:
        server = SandboxServer(settings, when_listening=listening.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
        thread.start()
        try:
            if not listening.wait(START_S_MAX):
                raise SandboxPortError(settings.port, reason="the server did not start")
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join(START_S_MAX)
