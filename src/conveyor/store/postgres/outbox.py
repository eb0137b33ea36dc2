"""From the outbox into the queues: what users' own transactions sent and acked before their COMMIT.

The second half of T1 and T3 for them: sequence numbers, keys, counters and levels are those of the moment at which a
message is carried over, under the catalog's lock as for any other send, and it lies in exactly one place before and
after. Limits were checked when it was sent. One carrier at a time, so that what was committed first comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.model.message import Draft
from conveyor.model.verdict import Settlement
from conveyor.store.postgres import settle
from conveyor.store.postgres.append import append_one, known_keys
from conveyor.store.postgres.transaction import Row, Transaction

CARRIED_MAX: Final = 500
"""Messages carried in one go: their bodies come by way of this process."""
ACKED: Final = -1
"""Owns the leases that were acked in a user's transaction."""

_DRAFT: Final = msgspec.json.Decoder(Draft)


def encode_draft(draft: Draft) -> str:
    return msgspec.json.encode(msgspec.structs.replace(draft, body=b"")).decode()


def decode_draft(text: str, body: bytes = b"") -> Draft:
    return msgspec.structs.replace(_DRAFT.decode(text), body=body)


async def read_store_id(tx: Transaction) -> bytes:
    """Which store this is: the user's connection must lead to the same."""
    found = await tx.row("read_store_id")
    assert found is not None, "a migrated store has one row"
    return bytes(found[0])


async def carry(tx: Transaction, *, limit: int = CARRIED_MAX) -> int:
    """Some of what is there, unless somebody else is carrying it; how much."""
    found = await tx.row("look_into_outbox")
    if found is None or not any(found):
        return 0
    is_ours = await tx.row("try_outbox")
    return await _carry(tx, limit) if is_ours is not None and is_ours[0] else 0


async def carry_all(tx: Transaction) -> None:
    """All that was committed before this, for who must see it: none of it is on its way afterwards."""
    found = await tx.row("look_into_outbox")
    if found is None or not any(found):
        return
    await tx.row("lock_outbox")
    while await _carry(tx, CARRIED_MAX) >= CARRIED_MAX:
        await tx.flush()
    await tx.flush()


async def _carry(tx: Transaction, limit: int) -> int:
    taken = await tx.rows("take_outbox", limit)
    await _append(tx, taken)
    acked = await tx.rows("acked_leases", limit)
    if acked:
        await settle.settle(tx, ACKED, [Settlement(seq, claims) for seq, claims in acked], {})
    return len(taken) + len(acked)


async def _append(tx: Transaction, taken: Sequence[Row]) -> None:
    sent = [(decode_draft(text, body), sent_at) for text, body, sent_at in taken]
    sent = [each for each in sent if tx.catalog.find(each[0].queue) is not None]  # as those of a queue that is deleted
    rows = {draft.queue: tx.catalog.get(draft.queue) for draft, _ in sent}
    known = await known_keys(tx, rows, [draft for draft, _ in sent])
    for draft, sent_at in sent:
        await append_one(tx, rows[draft.queue], draft, known, sent_at=sent_at)
