"""`python -m conveyor.server.web`: the HTTP server's process. It loads the app, serves, and ends with its
supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from typing import Final

import click
import uvicorn

from conveyor.loader import check_store, load_app
from conveyor.model.errors import InvalidSettingError
from conveyor.observe.log import make_log_sink
from conveyor.server.asgi import make_asgi
from conveyor.server.hosts import LOOPBACK, HostGuard
from conveyor.store.chosen import choose_stores
from conveyor.supervisor.process import ORPHANED, Control, Report, end_badly, ignore_signal, loop_factory

BACKLOG: Final = 2_048


@click.command()
@click.option("--app", "target", required=True)
@click.option("--host", required=True)
@click.option("--port", type=int, required=True)
@click.option("--control", "control_fd", type=int, required=True)
def main(target: str, host: str, port: int, control_fd: int) -> None:
    """Started by a supervisor."""
    signal.signal(signal.SIGINT, ignore_signal)
    control = Control(control_fd)
    threading.Thread(target=_end_with_supervisor, args=(control,), name="conveyor-orphan-watch", daemon=True).start()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(target, host, port, control))
    except Exception as error:  # noqa: BLE001 whatever the app's module raises, said once and in full
        end_badly(error)


async def _run(target: str, host: str, port: int, control: Control) -> None:
    listener = _bind(host, port)
    app = load_app(target)
    check_store(app, choose_stores())
    app.emit = make_log_sink()
    async with app:  # here, so that what the store refuses is said in our words
        signal.signal(signal.SIGTERM, ignore_signal)  # uvicorn listens while it serves, and raises it again afterwards
        config = uvicorn.Config(
            HostGuard(make_asgi(app), LOOPBACK | {host}),
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        await _Server(config, control, f"http://{_shown(host)}:{listener.getsockname()[1]}").serve([listener])


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, control: Control, url: str) -> None:
        super().__init__(config)
        self._control = control
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            print(f"conveyor: serving {self._url}", file=sys.stderr, flush=True)
            self._control.say(Report(ready=True))


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; `ConveyorError` with a hint if somebody has the port."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise InvalidSettingError(
            "CONVEYOR_PORT", port, f"cannot be bound: {error.strerror}", hint="choose another with `--port`"
        ) from error
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _end_with_supervisor(control: Control) -> None:
    control.wait_until_orphaned()
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
