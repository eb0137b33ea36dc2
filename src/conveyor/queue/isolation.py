"""Child processes for handler calls that must not harm the worker: `run_in="process"`, and messages suspected of
killing their worker. A child's death is charged to its call alone; cancelling a call kills its child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from conveyor.model.events import ChildDied, Emit
from conveyor.queue.frames import (
    DIED,
    FORK,
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

SUSPECTS_MAX: Final = 32
"""Crash suspects at once, beside the calls that are in children by their declaration."""


class ChildPool:
    """At most `size` calls at once, and `SUSPECTS_MAX` suspects, each in a process of its own.

    All are forked by one zygote, which is started when first needed; `size` of them are kept for the next calls.
    """

    def __init__(self, command: Sequence[str], size: int, emit: Emit) -> None:
        self.size = size
        self._command = tuple(command)
        self._emit = emit
        self._room = asyncio.Semaphore(size + SUSPECTS_MAX)
        self._zygote: _Zygote | None = None
        self._starting = asyncio.Lock()
        self._idle: list[_Runner] = []
        self._burials: set[asyncio.Task[None]] = set()

    async def run(self, request: ChildRequest) -> Answer:
        """One call; cancelling it kills its child."""
        payload = frame(encode_request(request))
        async with self._room:
            try:
                runner = await self._take()
            except OSError as error:
                return ChildUnusable(f"{type(error).__name__}: {error}")
            answer = await runner.run(payload)
            self._keep(runner)
            return answer

    async def close(self) -> None:
        """Kill all of them."""
        self._idle.clear()
        self._bury()
        if self._burials:
            await asyncio.wait(self._burials)

    async def _take(self) -> _Runner:
        """An idle runner, or a new one. `OSError` if there is none to be had."""
        while self._idle:
            runner = self._idle.pop()
            if runner.is_usable:
                return runner
        async with self._starting:
            if self._zygote is None or not self._zygote.is_usable:
                self._bury()
                self._zygote = _Zygote(self._emit)
                await self._zygote.start(self._command)
            zygote = self._zygote
        return await zygote.fork()

    def _keep(self, runner: _Runner) -> None:
        if runner.is_usable and len(self._idle) < self.size:
            self._idle.append(runner)
        else:
            runner.is_spare = True
            runner.dismiss()

    def _bury(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            burial = asyncio.create_task(zygote.close())
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)


class _Runner:
    """The process at the other end of a connection."""

    __slots__ = ("_connection", "_is_busy", "_loop", "_zygote", "died", "is_spare", "is_usable", "pid")

    def __init__(self, pid: int, connection: socket.socket, zygote: _Zygote) -> None:
        connection.setblocking(False)
        self.pid = pid
        self.is_usable = True
        self.is_spare = False
        """Let go because there are enough: its death is no news."""
        self._connection = connection
        self._zygote = zygote
        self._is_busy = False
        self._loop = asyncio.get_running_loop()
        self.died: asyncio.Future[str] = self._loop.create_future()

    async def run(self, payload: bytes) -> Answer:
        """One call; cancelling it kills the process."""
        self._is_busy = True
        try:
            await self._loop.sock_sendall(self._connection, payload)
            head = await self._receive(LENGTH_BYTES)
            answer = decode_outcome(await self._receive(read_length(head)))
        except (OSError, EOFError):
            self.dismiss()  # it may live on, without its connection
            return Crashed(await asyncio.shield(self.died))
        except BaseException:
            self.dismiss()
            raise
        self._is_busy = False
        return answer

    def dismiss(self) -> None:
        """It is of no more use, dead or alive: its connection may be left in the middle of a frame."""
        self.is_usable = False
        self._connection.close()
        if not self.died.done():
            self._zygote.kill(self)

    def mourn(self, detail: str) -> None:
        """It is dead; whoever waits for its answer learns why."""
        if self.died.done():
            return
        self.is_usable = False
        self.died.set_result(detail)
        if self._is_busy and self._connection.fileno() >= 0:
            self._connection.shutdown(socket.SHUT_RDWR)  # a grandchild may hold the other end; what came is still read
        else:
            self._connection.close()

    async def _receive(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = await self._loop.sock_recv(self._connection, size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


class _Zygote:
    """The process that has imported the app, and forks runners."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._runners: dict[int, _Runner] = {}
        self._expected: deque[asyncio.Future[_Runner]] = deque()
        self.is_usable = True

    async def start(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                # A supervised worker leads a group: with it dies all that it started, before its messages go to others.
                # Elsewhere a terminal's Ctrl-C is the worker's to obey, not its children's.
                start_new_session=os.getpgrp() != os.getpid(),
            )
        except BaseException:
            ours.close()
            self.is_usable = False
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._loop.add_reader(ours.fileno(), self._hear, ours)

    async def fork(self) -> _Runner:
        """A new runner. `OSError` if the zygote ends before it has made one."""
        if self._control is None:
            raise ChildProcessError("the child process ended before it could run anything")
        expected: asyncio.Future[_Runner] = self._loop.create_future()
        self._expected.append(expected)
        self._control.send(Record(FORK).encode())
        try:
            return await asyncio.shield(expected)
        except asyncio.CancelledError:
            expected.add_done_callback(_dismiss_arrival)
            raise

    def kill(self, runner: _Runner) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(Record(KILL, runner.pid).encode())

    async def close(self) -> None:
        """Kill zygote and runners."""
        self._end("closed")
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

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
            runner = self._runners[record.pid] = _Runner(record.pid, socket.socket(fileno=fds[0]), self)
            self._expected.popleft().set_result(runner)
        elif record.kind == DIED:
            self._mourn(self._runners.pop(record.pid), describe_status(record.status))

    def _mourn(self, runner: _Runner, detail: str) -> None:
        if not runner.is_spare:
            self._emit(ChildDied(pid=runner.pid, detail=detail))
        runner.mourn(detail)

    def _end(self, detail: str) -> None:
        """There is no zygote any more: nobody to reap runners or to make others."""
        if self._control is None:
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        self.is_usable = False
        for runner in self._runners.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(runner.pid, signal.SIGKILL)
            self._mourn(runner, detail)
        self._runners.clear()
        while self._expected:
            expected = self._expected.popleft()
            if not expected.done():
                expected.set_exception(ChildProcessError("the child process ended before it could run anything"))


def _dismiss_arrival(expected: asyncio.Future[_Runner]) -> None:
    """Nobody waits for this runner any more."""
    if not expected.cancelled() and expected.exception() is None:
        expected.result().dismiss()


def describe_status(status: int) -> str:
    """A wait status for people: `killed by signal 9`."""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by signal {-code}" if code < 0 else f"exited with status {code}"
