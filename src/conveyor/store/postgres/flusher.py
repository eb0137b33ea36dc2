"""Group commit for sends: whatever appends have gathered go in one transaction, and wait together for its COMMIT.

    callers     append(drafts) -> future                 all of a group are woken in one go
    flusher     take what has gathered -> plan each -> one multi-row insert -> COMMIT

A domain error fails its caller alone, since a call is checked before any of it is buffered. If the database refuses the
group, each call runs again alone, so that the one at fault does not fail the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from conveyor.model.errors import ConveyorError, OutcomeUnknownError, StoreBusyError
from conveyor.model.message import Draft, Sent
from conveyor.store.postgres import outbox, plain
from conveyor.store.postgres.append import Depths, append
from conveyor.store.postgres.faults import is_lost
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.pool import Pool
from conveyor.store.postgres.transaction import Transaction

GROUP_CALLS_MAX: Final = 1_000

_Call = tuple[Sequence[Draft], "asyncio.Future[list[Sent]]"]


class Flusher:
    """One task with one connection."""

    def __init__(self, pool: Pool, depths: Depths) -> None:
        self._pool = pool
        self._depths = depths
        self._waiting: list[_Call] = []
        self._gathered = asyncio.Event()
        self._ends = False
        self._task = asyncio.get_running_loop().create_task(self._work())

    def submit(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Sent]]:
        """Done after COMMIT. Cancelling the future does not withdraw the send."""
        future: asyncio.Future[list[Sent]] = asyncio.get_running_loop().create_future()
        self._waiting.append((drafts, future))
        self._gathered.set()
        return future

    async def stop(self) -> None:
        """Commit what was submitted, then end."""
        self._ends = True
        self._gathered.set()
        await self._task
        await self._pool.close()

    async def _work(self) -> None:
        while True:
            await self._gathered.wait()
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP_CALLS_MAX], self._waiting[GROUP_CALLS_MAX:]
                await self._commit(group)
            self._gathered.clear()
            if self._ends:
                return

    async def _commit(self, group: list[_Call]) -> None:
        answers: Sequence[list[Sent] | Exception] | None
        try:
            answers = await self._append_plainly(group)
            if answers is None:
                answers = await self._pool.run(lambda tx: self._append_all(tx, group), Durability.SYNCED)
        except Exception as error:  # noqa: BLE001 whatever it is, the flusher lives on and the callers are told
            if len(group) > 1 and not _fails_for_all(error):
                for call in group:
                    await self._commit([call])
                return
            answers = [error for _ in group]
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, list):
                future.set_result(answer)
            else:
                future.set_exception(answer)

    async def _append_plainly(self, group: list[_Call]) -> Sequence[list[Sent] | Exception] | None:
        calls = [drafts for drafts, _ in group]
        return await self._pool.use(lambda link: plain.append(link, calls, self._depths))

    async def _append_all(self, tx: Transaction, group: list[_Call]) -> list[list[Sent] | Exception]:
        answers: list[list[Sent] | Exception] = []
        if any(_has_turn(tx, draft) for drafts, _ in group for draft in drafts):
            await outbox.carry_all(tx)
        for drafts, _ in group:
            try:
                answers.append(await append(tx, drafts, self._depths))
            except ConveyorError as error:
                answers.append(error)
        return answers


def _has_turn(tx: Transaction, draft: Draft) -> bool:
    """Whether it matters that what users' transactions have sent before is there before: by its keys."""
    if draft.dedupe is not None:
        return True
    row = None if draft.key is None else tx.catalog.find(draft.queue)
    return row is not None and row.consumer is not None and row.consumer.ordered


def _fails_for_all(error: Exception) -> bool:
    """No call of the group is at fault: each alone would fare no better."""
    cause = error.__cause__
    return isinstance(error, StoreBusyError | OutcomeUnknownError) or (cause is not None and is_lost(cause))
