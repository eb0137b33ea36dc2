"""The user's own transaction: what a store does there happens if and when the user commits it.

`tx=` is whatever the user has in hand. Here it is taken apart as far as the driver's own connection, which is a store's
business from there on; no library is imported for that.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar

from conveyor.model.errors import InvalidTransactionError
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import QueueSettings

T = TypeVar("T")


class Joined(Protocol):
    """The user's transaction, open until the user ends it. What is raised on purpose leaves it as it was."""

    async def get_settings(self, queue: str) -> QueueSettings:
        """As the transaction sees them. `QueueNotFoundError`."""
        ...

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        """T1, all or none; visible, and consumers woken, after the user's COMMIT. `QueueNotFoundError`,
        `QueueFullError`."""
        ...

    async def ack(self, owner: int, lease: Lease) -> None:
        """T3. `LeaseLostError` if the lease is not this owner's any more, also if the message is gone."""
        ...


class Joinable(Protocol):
    """A store whose database may be the user's too."""

    def join(self, tx: object) -> Joined:
        """`InvalidTransactionError` if this is no open transaction of the store's own database."""
        ...


def find_connection(tx: object) -> object:
    """The driver's connection under an SQLAlchemy session or connection; anything else is handed back as it is."""
    if not is_from(tx, "sqlalchemy"):
        return tx
    part: Any = tx
    part = getattr(part, "sync_session", part)  # AsyncSession
    part = getattr(part, "sync_connection", part)  # AsyncConnection
    if part is None:
        raise InvalidTransactionError(tx, "it is not started")
    if hasattr(part, "get_bind"):  # a Session: the connection of its transaction
        part = part.connection()
    return part.connection.driver_connection


def is_from(value: object, *libraries: str) -> bool:
    """Whether the value's class, or one it inherits from, is of one of these libraries."""
    return any(kind.__module__.partition(".")[0] in libraries for kind in type(value).__mro__)


class Caller:
    """A thread that waits in `run_sync`, and does there what must be done in the user's own thread: a connection that
    is not async belongs to it, and would block the event loop."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._task: asyncio.Task[Any] | None = None

    async def attend(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's answer, while the thread waits; not for tasks that it begins, which may outlive the wait."""
        self._task = asyncio.current_task()
        _CALLER.set(self)
        return await coroutine

    def wait(self, answer: Future[T]) -> T:
        """In the user's thread: until there is an answer, which is handed back or raised."""
        answer.add_done_callback(lambda _: self._jobs.put(None))
        try:
            while (job := self._jobs.get()) is not None:
                job()
        except BaseException:  # Ctrl+C: nobody does the jobs any more
            answer.cancel()
            raise
        return answer.result()

    async def do(self, job: Callable[[], T]) -> T:
        """On the event loop: what the job returns or raises there."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if done.done():  # given up by whoever awaited it
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]  # without an error, it is the job's

        def work() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001  # raised where it is awaited
                loop.call_soon_threadsafe(tell, None, error)
            else:
                loop.call_soon_threadsafe(tell, result, None)

        self._jobs.put(work)
        return await done

    @property
    def is_here(self) -> bool:
        return self._task is asyncio.current_task()


_CALLER: Final[ContextVar[Caller | None]] = ContextVar("conveyor_caller", default=None)


def find_caller() -> Caller | None:
    """The thread that waits for the running task, if one does."""
    caller = _CALLER.get()
    return caller if caller is not None and caller.is_here else None
