"""The claims of this process: the plain way where it is open, and what becomes of one whose answer was lost.

A claim writes no receipt. So the leases that claims have brought home are remembered; after a lost answer, what the
database holds for the owner beyond them is given back, which is no failure, before anything else is claimed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Final

from conveyor.model.errors import OutcomeUnknownError
from conveyor.model.verdict import Action, Settlement
from conveyor.store.postgres import claim as long_way
from conveyor.store.postgres import plain, settle
from conveyor.store.postgres.door import Door
from conveyor.store.postgres.leases import read_ended
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.pool import Pool
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import PULL_OWNER, Claimed, ClaimRequest

LOOK_AGAIN_S: Final = 30.0
"""Whatever was still on its way to the server when its answer was given up has arrived by then."""
HELD_MAX: Final = 20_000
"""From so many on it is looked which of them are held no more: transactions of the user's own settle some."""


class Claims:
    """One at a time for each owner and queue."""

    def __init__(self, pool: Pool, door: Door) -> None:
        self._pool = pool
        self._door = door
        self._turns: defaultdict[tuple[int, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._held: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        self._looks: dict[tuple[int, str], list[float]] = {}
        self._most = HELD_MAX

    async def claim(self, request: ClaimRequest) -> Claimed:
        """T2."""
        if request.owner == PULL_OWNER:  # its leases end by themselves
            return await self._ask(request, self._door.deadline())
        async with self._turns[request.owner, request.queue]:
            claimed = await self._claim_for_sure(request)
            held = self._held[request.owner]
            held.update([(lease.seq, lease.claim) for lease in claimed.leases])
            if len(held) > self._most:
                await self._look(request, self._door.deadline())
                self._most = max(HELD_MAX, 2 * len(held))
        return claimed

    def forget(self, owner: int, settlements: Iterable[Settlement]) -> None:
        """They are settled."""
        self._held[owner].difference_update([(each.seq, each.claim) for each in settlements])

    async def _claim_for_sure(self, request: ClaimRequest) -> Claimed:
        mine, deadline = (request.owner, request.queue), self._door.deadline()
        while True:
            looks = self._looks.get(mine)
            if looks and self._door.now() >= looks[0]:
                await self._look(request, deadline)
                looks.pop(0)
            try:
                return await self._ask(request, deadline)
            except OutcomeUnknownError:
                self._looks[mine] = [self._door.now(), self._door.now() + LOOK_AGAIN_S]
                if self._door.is_past(deadline):
                    raise

    async def _ask(self, request: ClaimRequest, deadline: float) -> Claimed:
        """The plain way if it is open, else the long one."""
        taken = await self._pool.use(lambda link: plain.claim(link, request), deadline)
        if taken is None:
            return await self._pool.run(lambda tx: long_way.claim(tx, request), Durability.RELAXED, deadline=deadline)
        if taken.past:
            work = partial(plain.replace_past, request=request, taken=taken)
            return await self._pool.run(work, Durability.RELAXED, deadline=deadline)
        return taken.claimed

    async def _look(self, request: ClaimRequest, deadline: float) -> None:
        """Give back what the owner holds without knowing it; and forget what it holds no more."""
        held = self._held[request.owner]
        known = frozenset(held)
        work = partial(_give_back_strays, request=request, known=known)
        there = await self._pool.run(work, Durability.RELAXED, deadline=deadline)
        held -= known - there


async def _give_back_strays(
    tx: Transaction, request: ClaimRequest, known: frozenset[tuple[int, int]]
) -> frozenset[tuple[int, int]]:
    """T8 for leases of this queue that never came home. All that the owner holds, as (seq, claim)."""
    row = tx.catalog.get(request.queue)
    await tx.row("lock_owner", request.owner)  # waits for a claim that is still at work
    ours = [read_ended(found) for found in await tx.rows("leases_of_owner", request.owner)]
    strays = [
        Settlement(each.seq, each.claims, Action.RELEASE)
        for each in ours
        if each.lane == row.lane and (each.seq, each.claims) not in known
    ]
    limit = None if row.consumer is None else row.consumer.max_concurrency
    calls = 0 if limit is None else -(-len(strays) // request.batch_size)
    await settle.settle(tx, request.owner, strays, {request.queue: calls} if calls else {})
    return frozenset((each.seq, each.claims) for each in ours)
