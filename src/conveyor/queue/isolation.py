"""Child processes for handler calls that must not harm the worker: `run_in="process"`, and messages suspected of
killing their worker. A child's death is charged to its call alone; cancelling a call kills its child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import Final

from conveyor.model.events import ChildDied, Emit
from conveyor.queue.frames import (
    DIED,
    KILL,
    LENGTH_BYTES,
    RECORD_BYTES,
    RUNNER,
    Answer,
    ChildRequest,
    ChildUnusable,
    Crashed,
    Isolation,
    Record,
    decode_outcome,
    encode_request,
    frame,
    read_length,
)

__all__ = ["Answer", "ChildPool", "ChildRequest", "ChildUnusable", "Crashed", "Isolation"]

RESERVE: Final = 1
"""A child more than calls, so that a suspect never waits for one."""


class ChildPool:
    """At most `size` calls at once, and one suspect; children are started when first needed, and kept."""

    def __init__(self, command: Sequence[str], size: int, emit: Emit) -> None:
        self.size = size
        self._command = tuple(command)
        self._emit = emit
        self._room = asyncio.Semaphore(size + RESERVE)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._burials: set[asyncio.Task[None]] = set()

    async def run(self, request: ChildRequest) -> Answer:
        """One call; cancelling it kills its child."""
        payload = frame(encode_request(request))
        async with self._room:
            try:
                child = self._idle.pop() if self._idle else await self._start()
            except OSError as error:
                return ChildUnusable(f"{type(error).__name__}: {error}")
            try:
                return await child.run(payload)
            finally:
                if child.is_usable:
                    self._idle.append(child)
                else:
                    self._bury(child)

    async def close(self) -> None:
        """Kill all of them."""
        self._idle.clear()
        for child in list(self._all):
            self._bury(child)
        if self._burials:
            await asyncio.wait(self._burials)

    def _bury(self, child: _Child) -> None:
        self._all.discard(child)
        burial = asyncio.create_task(child.close())
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def _start(self) -> _Child:
        child = _Child(self._emit)
        self._all.add(child)
        try:
            await child.start(self._command)
        except BaseException:
            self._bury(child)
            raise
        return child


class _Runner:
    """The process at the other end of a connection."""

    __slots__ = ("connection", "died", "is_busy", "pid")

    def __init__(self, pid: int, connection: socket.socket, died: asyncio.Future[str]) -> None:
        self.pid = pid
        self.connection = connection
        self.died = died
        self.is_busy = False


class _Child:
    """A zygote, and its runner of the moment."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._runner: _Runner | None = None
        self._newest: _Runner | None = None
        """The runner that was announced last; dead or alive."""
        self._arrival = asyncio.Event()
        self.is_usable = True

    async def start(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the worker's to obey
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._loop.add_reader(ours.fileno(), self._hear, ours)

    async def run(self, payload: bytes) -> Answer:
        while self._runner is None:
            if not self.is_usable:
                return ChildUnusable("the child process ended before it could run anything")
            self._arrival.clear()
            await self._arrival.wait()
        runner = self._runner
        runner.is_busy = True
        try:
            await self._loop.sock_sendall(runner.connection, payload)
            head = await self._receive(runner, LENGTH_BYTES)
            answer = decode_outcome(await self._receive(runner, read_length(head)))
        except (OSError, EOFError):
            self._retire(runner)  # it may live on, without its connection
            return Crashed(await asyncio.shield(runner.died))
        except BaseException:
            self._retire(runner)
            raise
        runner.is_busy = False
        return answer

    async def close(self) -> None:
        """Kill zygote and runner."""
        self._end("closed")
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _receive(self, runner: _Runner, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = await self._loop.sock_recv(runner.connection, size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _retire(self, runner: _Runner) -> None:
        """Its connection may be left in the middle of a frame: it is of no more use, dead or alive."""
        runner.connection.close()
        if runner is self._runner:
            self._runner = None
        if not runner.died.done() and self._control is not None:
            self._control.send(Record(KILL, runner.pid).encode())

    def _hear(self, control: socket.socket) -> None:
        try:
            raw, fds, _, _ = socket.recv_fds(control, RECORD_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            raw, fds = b"", []
        if len(raw) < RECORD_BYTES:
            self._end("its parent ended")
            return
        record = Record.decode(raw)
        if record.kind == RUNNER:
            self._welcome(record.value, socket.socket(fileno=fds[0]))
        elif record.kind == DIED and self._newest is not None:
            self._mourn(self._newest, describe_status(record.value))

    def _welcome(self, pid: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._runner = self._newest = _Runner(pid, connection, self._loop.create_future())
        self._arrival.set()

    def _mourn(self, runner: _Runner, detail: str) -> None:
        if runner.died.done():
            return
        runner.died.set_result(detail)
        self._emit(ChildDied(pid=runner.pid, detail=detail))
        if runner is not self._runner:
            return
        self._runner = None
        if runner.is_busy:
            runner.connection.shutdown(socket.SHUT_RDWR)  # a grandchild may hold the other end; what came is still read
        else:
            runner.connection.close()

    def _end(self, detail: str) -> None:
        """There is no zygote any more: nobody to reap the runner or to make another."""
        if self._control is None:
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        self.is_usable = False
        if self._newest is not None and not self._newest.died.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._newest.pid, signal.SIGKILL)
            self._mourn(self._newest, detail)
        self._arrival.set()


def describe_status(status: int) -> str:
    """A wait status for people: `killed by signal 9`."""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by signal {-code}" if code < 0 else f"exited with status {code}"
