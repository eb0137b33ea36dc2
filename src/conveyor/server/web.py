"""`python -m conveyor.server.web`: the HTTP server's process. It loads the app, serves, and ends with its supervisor."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import click
import uvicorn

from conveyor.loader import load_app
from conveyor.model.errors import ConveyorError, InvalidSettingError
from conveyor.observe.log import make_log_sink
from conveyor.server.asgi import make_asgi
from conveyor.server.hosts import LOOPBACK, HostGuard
from conveyor.supervisor.process import Control, Report
from conveyor.supervisor.supervisor import CHILD_FAILED


@click.command()
@click.option("--app", "target", required=True)
@click.option("--host", required=True)
@click.option("--port", type=int, required=True)
@click.option("--control", "control_fd", type=int, required=True)
def main(target: str, host: str, port: int, control_fd: int) -> None:
    """Started by a supervisor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Control(control_fd)
    threading.Thread(target=_end_with_supervisor, args=(control,), name="conveyor-orphan-watch", daemon=True).start()
    try:
        listener = _bind(host, port)
        app = load_app(target)
    except (ConveyorError, OSError) as error:
        print(f"conveyor: {error}", file=sys.stderr)
        sys.exit(CHILD_FAILED)
    app.emit = make_log_sink()
    config = uvicorn.Config(
        HostGuard(make_asgi(app), LOOPBACK | {host}),
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    print(f"conveyor: serving http://{host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    control.say(Report(ready=True))
    uvicorn.Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; `ConveyorError` with a hint if somebody has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise InvalidSettingError(
            "CONVEYOR_PORT", port, f"cannot be bound: {error.strerror}", hint="choose another with `--port`"
        ) from error
    return listener


def _end_with_supervisor(control: Control) -> None:
    control.wait_until_orphaned()
    os._exit(CHILD_FAILED)


if __name__ == "__main__":
    main()
