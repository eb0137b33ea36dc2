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
POLL_S: Final = 0.05


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
        if self.started:
            self._when_listening()

    def serve_on(self, listener: socket.socket) -> None:
        """Serve until it is told to stop; `started` says whether it ever did."""
        with contextlib.suppress(SystemExit):  # uvicorn's word for a lifespan that did not begin
            self.run(sockets=[listener])


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
        server = SandboxServer(settings, when_listening=lambda: announce(url_of(listener)))
        server.serve_on(listener)
        if not server.started:
            raise _unstarted(settings)


def _unstarted(settings: SandboxSettings) -> SandboxPortError:
    """Say why there is no server: its own port was taken before, so it is the mail's, if any."""
    return SandboxPortError(settings.smtp_port or settings.port, reason="the server did not start")


@contextlib.contextmanager
def serving(settings: SandboxSettings) -> Iterator[str]:
    """Serve in a thread for the length of the block; gives the base URL.

    >>> with serving(SandboxSettings(seed=7)) as url:  # doctest: +SKIP
    ...     httpx2.get(f"{url}/tmdb/3/movie/now_playing", headers={"Authorization": "Bearer any"})
    """
    listening = threading.Event()
    with bind(settings) as listener:
        server = SandboxServer(settings, when_listening=listening.set)
        thread = threading.Thread(target=server.serve_on, args=(listener,), name="sandbox", daemon=True)
        thread.start()
        try:
            deadline = START_S_MAX
            while not listening.wait(POLL_S):
                deadline -= POLL_S
                if deadline <= 0 or not thread.is_alive():
                    raise _unstarted(settings)
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join(START_S_MAX)
