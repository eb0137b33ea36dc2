"""`python -m conveyor.server.web`: the HTTP server's process. It loads the app, serves, and ends with its
supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from typing import Final

import click
import msgspec
import uvicorn
from starlette.applications import Starlette

from conveyor.app import Hook
from conveyor.audit.trail import Audit
from conveyor.loader import check_store, load_app
from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import ConnectionTroubled, Emit
from conveyor.observe.log import make_log_sink
from conveyor.server.asgi import make_asgi
from conveyor.server.binding import Binding, check_binding, make_first_token
from conveyor.server.gate import read_rates
from conveyor.server.hosts import HostGuard
from conveyor.server.listening import IDLE_S, BoundedProtocol
from conveyor.server.tokens import Secret, Tokens, read_environment
from conveyor.store.chosen import choose_stores
from conveyor.supervisor.process import ORPHANED, Control, Report, end_badly, ignore_signal, loop_factory

BACKLOG: Final = 2_048
WS_BYTES_MAX: Final = 4_096
"""Of what a client says on a WebSocket, where it has nothing to say."""


@click.command()
@click.option("--app", "target", required=True)
@click.option("--binding", required=True)
@click.option("--control", "control_fd", type=int, required=True)
def main(target: str, binding: str, control_fd: int) -> None:
    """Started by a supervisor; `binding` is JSON."""
    signal.signal(signal.SIGINT, ignore_signal)
    control = Control(control_fd)
    threading.Thread(target=_end_with_supervisor, args=(control,), name="conveyor-orphan-watch", daemon=True).start()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(target, msgspec.json.decode(binding, type=Binding), control))
    except Exception as error:  # noqa: BLE001 whatever the app's module raises, said once and in full
        end_badly(error)


async def _run(target: str, binding: Binding, control: Control) -> None:
    token, pepper = read_environment()
    listener = _bind(binding.host, binding.port)
    app = load_app(target)
    check_store(app, choose_stores())
    app.emit = make_log_sink()
    _listen_to_uvicorn(app.emit)
    async with app:  # here, so that what the store refuses is said in our words
        signal.signal(signal.SIGTERM, ignore_signal)  # uvicorn listens while it serves, and raises it again afterwards
        tokens = Tokens(app.store, pepper=pepper)
        check_binding(binding, has_token=token is not None or await tokens.is_any())
        first = None if token is not None else await make_first_token(tokens, Audit(app.store, pepper=pepper))
        asgi = make_asgi(app, token=token, pepper=pepper, rates=read_rates(binding.rate))
        scheme = "http" if binding.certificate is None else "https"
        url = f"{scheme}://{_shown(binding.host)}:{listener.getsockname()[1]}"
        await _Server(_configure(asgi, binding), asgi.stop, control, url, first).serve([listener])


class _Told(logging.Handler):
    """What uvicorn logs, as events: a line each, without the words of exceptions."""

    def __init__(self, emit: Emit) -> None:
        super().__init__(logging.WARNING)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        error = None if kind is None else kind.__qualname__
        self._emit(ConnectionTroubled(problem=record.getMessage().strip(), error=error))


def _listen_to_uvicorn(emit: Emit) -> None:
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [_Told(emit)], False


def _configure(asgi: Starlette, binding: Binding) -> uvicorn.Config:
    return uvicorn.Config(
        HostGuard(asgi, binding.hosts),
        lifespan="on",
        http=BoundedProtocol,
        ws="websockets-sansio",
        ws_max_size=WS_BYTES_MAX,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(binding.proxies),
        forwarded_allow_ips=list(binding.proxies),
        ssl_certfile=binding.certificate,
        ssl_keyfile=binding.key,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=5,
    )


class _Server(uvicorn.Server):
    """Says when it answers, and the first token, once; ends the streams before it ends."""

    def __init__(self, config: uvicorn.Config, stop: Hook, control: Control, url: str, first: Secret | None) -> None:
        super().__init__(config)
        self._stop = stop
        self._control = control
        self._url = url
        self._first = first

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            print(f"conveyor: serving {self._url}", file=sys.stderr, flush=True)
            if self._first is not None:
                said = "the first token, for everything; it is not shown again"
                print(f"conveyor: {said}:\n  {self._first}", file=sys.stderr, flush=True)
                self._first = None
            self._control.say(Report(ready=True))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stop()  # uvicorn would wait for them until its patience ends
        await super().shutdown(sockets)


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
