"""Group commit for sends: whatever appends have gathered go in one transaction, and wait together for its COMMIT.

    callers     append(drafts) -> future                 all of a group are woken in one go; a large one is two
    flusher     take what has gathered -> plan each -> one multi-row insert -> COMMIT

A domain error fails its caller alone, since a call is checked before any of it is buffered. If the database refuses the
group, each call runs again alone, so that the one at fault does not fail the others. While the server is away each call
waits until a deadline of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from conveyor.model.errors import ConveyorError, OutcomeUnknownError, StoreAwayError, StoreBusyError, StoreReadOnlyError
from conveyor.model.message import Draft, Sent
from conveyor.store.postgres import outbox, plain
from conveyor.store.postgres.append import Depths, append
from conveyor.store.postgres.bell import Bell
from conveyor.store.postgres.claim import claim
from conveyor.store.postgres.door import Door
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.pool import Pool
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.protocol import Wake
from conveyor.store.records import Claimed, ClaimRequest

GROUP_CALLS_MAX: Final = 1_000
SPLIT_MESSAGES_MIN: Final = 500
"""A group of so many is two transactions at once: the server has more than one core, and we wait meanwhile."""


_Pair: TypeAlias = tuple[list[Sent], Claimed]
_Answer: TypeAlias = list[Sent] | _Pair | Exception


class _Call(msgspec.Struct, gc=False):
    """A send that waits."""

    drafts: Sequence[Draft]
    future: asyncio.Future[Any]
    deadline: float
    request: ClaimRequest | None = None
    """What is claimed in the same transaction; then the answer is a pair."""


class Flusher:
    """One task with two connections: the second for half of a large group. `wake` tells this process of what the bell
    said with a commit."""

    def __init__(self, pool: Pool, door: Door, depths: Depths, bell: Bell, wake: Wake) -> None:
        self._pool = pool
        self._bell = bell
        self._wake = wake
        self._door = door
        self._depths = depths
        self._waiting: list[_Call] = []
        self._gathered = asyncio.Event()
        self._ends = False
        self._task = asyncio.get_running_loop().create_task(self._work())

    def submit(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Sent]]:
        """Done after COMMIT. Cancelling the future does not withdraw the send."""
        return self._put(drafts, None)

    def submit_and_claim(
        self, drafts: Sequence[Draft], request: ClaimRequest
    ) -> asyncio.Future[tuple[list[Sent], Claimed]]:
        """The same, with a claim that follows in its transaction."""
        return self._put(drafts, request)

    def _put(self, drafts: Sequence[Draft], request: ClaimRequest | None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(drafts, future, self._door.deadline(), request))
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
                halves = _split(group)
                if len(halves) == 1:  # no task of its own for a lone send
                    await self._commit(group)
                else:
                    await asyncio.gather(*(self._commit(half) for half in halves))
            self._gathered.clear()
            if self._ends:
                return

    async def _commit(self, group: list[_Call]) -> None:
        answers: Sequence[_Answer] | None
        try:
            answers = await self._append_plainly(group)
            if answers is None:
                answers = await self._pool.run(
                    lambda tx: self._append_all(tx, group), Durability.SYNCED, deadline=group[0].deadline
                )
        except (StoreAwayError, StoreBusyError, StoreReadOnlyError) as error:  # no call of the group is at fault
            if self._door.is_past(group[0].deadline) and not self._ends:
                group = self._keep_waiting(group)
            answers = [error for _ in group]
        except Exception as error:  # noqa: BLE001 whatever it is, the flusher lives on and the callers are told
            if len(group) > 1 and not isinstance(error, OutcomeUnknownError):
                for call in group:
                    await self._commit([call])
                return
            answers = [error for _ in group]
        for call, answer in zip(group, answers, strict=True):
            if call.future.done():
                continue
            if isinstance(answer, Exception):
                call.future.set_exception(answer)
            else:
                call.future.set_result(answer)

    def _keep_waiting(self, group: list[_Call]) -> list[_Call]:
        """Those of a group that have waited long enough; the others go on, in their places."""
        is_late = [self._door.is_past(call.deadline) for call in group]
        self._waiting = [call for call, late in zip(group, is_late, strict=True) if not late] + self._waiting
        return [call for call, late in zip(group, is_late, strict=True) if late]

    async def _append_plainly(self, group: list[_Call]) -> Sequence[_Answer] | None:
        if any(call.request is not None for call in group):
            return None
        calls = [call.drafts for call in group]
        names = frozenset(draft.queue for call in calls for draft in call) if self._bell.is_quiet else frozenset()
        words = self._bell.say_with_commit(names) if names else None
        answers = await self._pool.use(lambda link: plain.append(link, calls, self._depths, words), group[0].deadline)
        if words and answers is not None:
            self._wake(names)
        return answers

    async def _append_all(self, tx: Transaction, group: list[_Call]) -> list[_Answer]:
        answers: list[_Answer] = []
        if any(_has_turn(tx, draft) for call in group for draft in call.drafts):
            await outbox.carry_all(tx)
        carried = frozenset(tx.woken)
        for call in group:
            try:
                answers.append(await append(tx, call.drafts, self._depths))
            except ConveyorError as error:
                answers.append(error)
        await self._claim_all(tx, group, answers)
        if len(group) == 1 and isinstance(answers[0], tuple) and len(group[0].drafts) == len(answers[0][1].leases):
            tx.woken -= {group[0].drafts[0].queue} - carried  # nothing is left for anybody else
        return answers

    async def _claim_all(self, tx: Transaction, group: list[_Call], answers: list[_Answer]) -> None:
        """After all sends: what they lock, they lock before any claim does, and claims lock lanes in their order, as
        verdicts do. One claim for all calls of an owner on a queue; the first of them is told of its leases."""
        wanting: dict[tuple[str, int, int], list[tuple[int, ClaimRequest]]] = {}
        for number, call in enumerate(group):
            if call.request is not None and isinstance(answers[number], list):
                place = (call.request.queue, call.request.owner, call.request.batch_size)
                wanting.setdefault(place, []).append((number, call.request))
        if wanting:
            await tx.flush()
        for _, wishes in sorted(wanting.items(), key=lambda each: tx.catalog.get(each[0][0]).lane):
            limit, calls = sum(each.limit for _, each in wishes), sum(each.calls for _, each in wishes)
            claimed = await claim(tx, msgspec.structs.replace(wishes[0][1], limit=limit, calls=calls))
            for number, _ in wishes:
                answers[number] = cast("list[Sent]", answers[number]), claimed
                claimed = Claimed(leases=[], version=claimed.version)


def _split(group: list[_Call]) -> list[list[_Call]]:
    """In two of about the same size, where it is large and the order of its calls means nothing."""
    sizes = [len(call.drafts) for call in group]
    if len(group) == 1 or sum(sizes) < SPLIT_MESSAGES_MIN:
        return [group]
    if any(draft.key is not None or draft.dedupe is not None for call in group for draft in call.drafts):
        return [group]
    half, first = sum(sizes) / 2, 0
    while sum(sizes[: first + 1]) <= half:
        first += 1
    return [group[: max(first, 1)], group[max(first, 1) :]]


def _has_turn(tx: Transaction, draft: Draft) -> bool:
    """Whether it matters that what users' transactions have sent before is there before: by its keys."""
    if draft.dedupe is not None:
        return True
    row = None if draft.key is None else tx.catalog.find(draft.queue)
    return row is not None and row.consumer is not None and row.consumer.ordered
