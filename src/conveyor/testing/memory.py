"""The store of the kit: in memory, and inline it has what was sent run at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from conveyor.model.message import Draft, Peeked, Sent
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock

T = TypeVar("T")
RunInline: TypeAlias = Callable[[set[str]], Awaitable[None]]
"""Handle what is ready in these queues."""

_PAGE: Final = 1_000


class KitStore(MemoryStore):
    """Remembers what was sent, and has it run, if it is told how."""

    def __init__(self, clock: ManualClock, run: RunInline | None) -> None:
        super().__init__(clock)
        self._inline = run
        self._sent: list[Peeked] = []

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        sent = await super().append(drafts)
        await self._run_sent(drafts, sent)
        return sent

    async def replace(self, draft: Draft) -> Sent:
        sent = await super().replace(draft)
        await self._run_sent([draft], [sent])
        return sent

    def sent_to(self, queue: str) -> list[Peeked]:
        """All that was, inline. `QueueNotFoundError`."""
        self._queue(queue)
        return [each for each in self._sent if each.queue == queue]

    async def _run_sent(self, drafts: Sequence[Draft], sent: Sequence[Sent]) -> None:
        if self._inline is None:
            return
        queues = {draft.queue for draft in drafts}
        ids = {each.id for each in sent if not each.deduped}
        self._sent += [each for queue in queues for each in all_messages(self, queue) if each.id in ids]
        await self._inline(queues)


def all_messages(store: Store, queue: str) -> list[Peeked]:
    """Those of a queue that are not final, in the order in which they were sent. `QueueNotFoundError`."""
    found: list[Peeked] = []
    while page := _at_once(store.peek(queue, limit=_PAGE, after_seq=found[-1].seq if found else 0)):
        found += page
    return found


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The memory store never waits, so its answer is there at the first step."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    coroutine.close()
    raise AssertionError("the memory store waited")
