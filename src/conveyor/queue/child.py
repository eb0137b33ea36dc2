"""`python -m conveyor.queue.child MODULE:APP FD`: where handlers run whose death must harm nobody.

The zygote imports the app, once and single-threaded, and forks a runner whenever the worker wants one more: in
milliseconds, and sharing the memory of the import. A runner runs one call after another. When one dies the zygote says
so; when the worker is gone, all of them are.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn, Protocol

from conveyor.model.errors import ConveyorError
from conveyor.queue.delivery import Fence
from conveyor.queue.dispatch import Attempt, attempt
from conveyor.queue.frames import (
    DIED,
    FORK,
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

LOOK_S: Final = 5.0
_POLL_MS: Final = 20
"""How often a zygote looks after its runners where the system has no pidfd."""


class App(Protocol):
    """What a child needs to know of an app."""

    def handlers(self) -> Sequence[Handler]: ...

    @property
    def store(self) -> Store:
        """Open after `ensure_open`."""
        ...

    async def ensure_open(self) -> None: ...

    async def open_once(self) -> None: ...


def main(arguments: list[str]) -> NoReturn:
    """The zygote's life."""
    target, fd = arguments
    control = socket.socket(fileno=int(fd))
    app: App = importlib.import_module("conveyor.loader").load_app(target)  # a room above: known only at run time
    asyncio.run(look(app))
    try:
        Zygote(app, control).serve()
    except ConnectionError:  # the worker is gone
        sys.exit(0)


async def look(app: App) -> None:
    """So that none of the forks has to. If the store is away each of them learns so itself."""
    with contextlib.suppress(ConveyorError, TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await app.open_once()


class Zygote:
    """Forks runners, and reaps them."""

    def __init__(self, app: App, control: socket.socket) -> None:
        self._app = app
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._runners: dict[int, int | None] = {}
        """pid to pidfd, where the system has such."""

    def serve(self) -> NoReturn:
        """Until the worker hangs up."""
        while True:
            waits = not self._runners or hasattr(os, "pidfd_open")
            ready = dict(self._poll.poll(None if waits else _POLL_MS))
            heard = ready.get(self._control.fileno(), 0)
            if heard & select.POLLHUP:  # the worker is gone, whatever it still wanted
                self._end()
            if heard:
                self._obey()
            self._reap()

    def _end(self) -> NoReturn:
        for pid in self._runners:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)

    def _obey(self) -> None:
        raw = self._control.recv(RECORD_BYTES, socket.MSG_WAITALL)
        if len(raw) < RECORD_BYTES:
            self._end()
        record = Record.decode(raw)
        if record.kind == FORK:
            self._fork()
        elif record.kind == KILL and record.pid in self._runners:
            os.kill(record.pid, signal.SIGKILL)

    def _fork(self) -> None:
        """A new runner; the worker gets its pid and one end of the connection to it."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                self._control.close()
                ours.close()
                run_calls(self._app, theirs)
            finally:
                os._exit(1)
        theirs.close()
        self._runners[pid] = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        if (pidfd := self._runners[pid]) is not None:
            self._poll.register(pidfd, select.POLLIN)
        socket.send_fds(self._control, [Record(RUNNER, pid).encode()], [ours.fileno()])
        ours.close()

    def _reap(self) -> None:
        for pid in list(self._runners):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            pidfd = self._runners.pop(pid)
            if pidfd is not None:
                self._poll.unregister(pidfd)
                os.close(pidfd)
            self._control.sendall(Record(DIED, pid, status).encode())


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
        handler = _handler(app, request.queue).pick(request.leases[0])
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


def _handler(app: App, queue: str) -> Handler:
    """KeyError if the app has none any more."""
    return {each.queue: each for each in app.handlers()}[queue]


async def _attempt(app: App, handler: Handler, argument: Any) -> Attempt:
    """In the app's own loop, which goes on beside code that is not async: that may send through `app.run_sync`."""
    try:
        await app.ensure_open()
        if not handler.is_async:
            return await asyncio.to_thread(attempt, handler.function, argument)
        return await handler.function(argument), None
    except BaseException as caught:  # noqa: BLE001  # whatever it is, its worker judges it
        return None, caught


if __name__ == "__main__":
    main(sys.argv[1:])
