"""`python -m conveyor.queue.child MODULE:APP FD`: where handlers run whose death must harm nobody.

The zygote imports the app, once and single-threaded, and forks a runner, which runs one call after another. When a
runner dies the zygote says so and forks the next, in milliseconds. When the worker is gone, so are they.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any, Final, NoReturn, Protocol

from conveyor.model.errors import ConveyorError
from conveyor.queue.delivery import Fence
from conveyor.queue.dispatch import Attempt, attempt
from conveyor.queue.frames import (
    DIED,
    KILL,
    RECORD_BYTES,
    RUNNER,
    ChildRequest,
    Record,
    decode_request,
    encode_outcome,
    frame,
    receive_frame,
)
from conveyor.queue.handler import Handler
from conveyor.queue.outcome import Delivery, Outcome, settle_as
from conveyor.store.protocol import Store

_POLL_MS: Final = 20
"""How often a zygote looks after its runner where the system has no pidfd."""


class App(Protocol):
    """What a child needs to know of an app."""

    def handler(self, queue: str) -> Handler: ...

    @property
    def store(self) -> Store:
        """Open after `ensure_open`."""
        ...

    async def ensure_open(self) -> None: ...


def main(arguments: list[str]) -> NoReturn:
    """The zygote's life."""
    target, fd = arguments
    control = socket.socket(fileno=int(fd))
    app: App = importlib.import_module("conveyor.loader").load_app(target)  # a room above: known only at run time
    try:
        while True:
            pid = _fork_runner(app, control)
            status = _watch(pid, control)
            control.sendall(Record(DIED, status).encode())
    except ConnectionError:  # the worker is gone
        sys.exit(0)


def _fork_runner(app: App, control: socket.socket) -> int:
    """A new runner; the worker gets its pid and one end of the connection to it."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            ours.close()
            run_calls(app, theirs)
        finally:
            os._exit(1)
    theirs.close()
    socket.send_fds(control, [Record(RUNNER, pid).encode()], [ours.fileno()])
    ours.close()
    return pid


def _watch(pid: int, control: socket.socket) -> int:
    """Wait until the runner is dead, killing it if the worker says so or is gone; its wait status."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll(None if pidfd is not None else _POLL_MS)}
            if control.fileno() in ready:
                _obey(pid, control)
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return status
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _obey(pid: int, control: socket.socket) -> None:
    raw = control.recv(RECORD_BYTES)
    if not raw:  # the worker is gone
        os.kill(pid, signal.SIGKILL)
        os._exit(0)
    if Record.decode(raw) == Record(KILL, pid):
        os.kill(pid, signal.SIGKILL)


def run_calls(app: App, connection: socket.socket) -> NoReturn:
    """A runner's life: one call after another, until the worker hangs up."""
    with asyncio.Runner() as loop:
        while (payload := receive_frame(connection)) is not None:
            outcome = _run_call(app, decode_request(payload), loop)
            connection.sendall(frame(encode_outcome(outcome)))
        os._exit(0)


def _run_call(app: App, request: ChildRequest, loop: asyncio.Runner) -> Outcome:
    def chance() -> float:
        return request.chance

    try:
        handler = app.handler(request.queue)
    except ConveyorError as error:
        return Outcome(
            settlements=[settle_as(lease, error, error, request.settings, chance) for lease in request.leases]
        )
    delivery = Delivery(handler, request.leases, Fence(request.owner, app.store.join))
    result: Attempt = (None, None)
    if delivery.argument is not None:
        pid = os.getpid()
        result = loop.run(_attempt(app, handler, delivery.argument))
        if os.getpid() != pid:
            os._exit(0)  # the handler forked, and this is the copy
    return delivery.judge(*result, request.settings, chance)


async def _attempt(app: App, handler: Handler, argument: Any) -> Attempt:
    """In the app's own loop, which goes on beside code that is not async: that may send through `app.run_sync`."""
    try:
        await app.ensure_open()
        if not handler.is_async:
            return await asyncio.to_thread(attempt, handler.function, argument)
        return await handler.function(argument), None
    except BaseException as caught:  # noqa: BLE001
        return None, caught


if __name__ == "__main__":
    main(sys.argv[1:])
