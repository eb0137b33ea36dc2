"""Claims and acks: the plain way if it is open, in one round trip, else the long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conveyor.model.verdict import Action, Settlement
from conveyor.store.postgres import claim as claiming
from conveyor.store.postgres import plain
from conveyor.store.postgres import settle as settling
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.pool import Pool
from conveyor.store.records import Claimed, ClaimRequest, Settled


async def claim(pool: Pool, request: ClaimRequest) -> Claimed:
    """T2."""
    taken = await pool.use(lambda link: plain.claim(link, request))
    if taken is None:
        return await pool.run(lambda tx: claiming.claim(tx, request), Durability.RELAXED)
    if taken.past:
        return await pool.run(lambda tx: plain.replace_past(tx, request, taken), Durability.RELAXED)
    return taken.claimed


async def settle(pool: Pool, owner: int, settlements: Sequence[Settlement], ended: Mapping[str, int]) -> Settled:
    """T3, T4, T6, T8."""
    settled = None if ended else await pool.use(lambda link: plain.ack(link, owner, settlements))
    if settled is not None:
        return settled
    is_plain = all(each.action is Action.RELEASE and each.parks is None for each in settlements)
    durability = Durability.RELAXED if is_plain else Durability.SYNCED
    return await pool.run(lambda tx: settling.settle(tx, owner, settlements, ended), durability)
