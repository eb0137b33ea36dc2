"""From the outbox into the queues: what users' own transactions sent and acked before their COMMIT.

The second half of T1 and T3 for them: sequence numbers, keys, counters and levels are those of the moment at which a
message is carried over, under the catalog's lock as for any other send, and it lies in exactly one place before and
after. Limits were checked when it was sent. One carrier at a time, so that what was committed first comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.model.clock import SystemClock
from conveyor.model.message import Draft
from conveyor.model.verdict import Settlement
from conveyor.store.postgres import settle
from conveyor.store.postgres.append import append_one, known_keys
from conveyor.store.postgres.transaction import Row, Transaction

CARRIED_MAX: Final = 500
"""Messages carried in one go: their bodies come by way of this process."""
ACKED: Final = -1
"""Owns the leases that were acked in a user's transaction."""

HEAD: Final = -1
"""Before every place and every seq."""
TRUST_S: Final = 1.0
CHEAP_S: Final = 0.02
REST: Final = 10

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


class Mark:
    """How far one kind of what lies there has been carried by this process.

    Under a held snapshot the index entries of all that was ever carried are still there, so a look begins where the
    last one ended, and at the very head once a second; where that is dear, in a tenth of the time.
    """

    def __init__(self, statement: str) -> None:
        self.statement = statement
        """Says whether there is anything past a place."""
        self._clock = SystemClock()  # what a look costs is a matter of real time
        self._place = HEAD
        self._looked_at = -math.inf
        self._took = 0.0

    def start(self) -> int | None:
        """Where to begin; None: nowhere, for now."""
        if self._clock.monotonic() - self._looked_at > max(TRUST_S, REST * self._took):
            return HEAD
        return None if self._place == HEAD and self._took > CHEAP_S else self._place

    async def look(self, tx: Transaction) -> int | None:
        """Where to begin to carry; None: nothing was found."""
        start = self.start()
        if start is None:
            return None
        began = self._clock.monotonic()
        found = await tx.row(self.statement, start)
        if start == HEAD:
            self._looked_at = self._clock.monotonic()
            self._took = self._looked_at - began
        return start if found is not None and found[0] else None

    def move(self, place: int) -> None:
        """So far all is carried. Last of all: what goes before may have to begin again, to hold the catalog alone."""
        self._place = max(self._place, place)


class Marks:
    """Those of one store."""

    def __init__(self) -> None:
        self.sends = Mark("is_anything_sent")
        self.acks = Mark("is_anything_acked")


async def carry(tx: Transaction, marks: Marks, *, limit: int = CARRIED_MAX) -> int:
    """Some of what is there, unless somebody else is carrying it; how much."""
    sends, acks = await marks.sends.look(tx), await marks.acks.look(tx)
    if sends is None and acks is None:
        return 0
    is_ours = await tx.row("try_outbox")
    if is_ours is None or not is_ours[0]:
        return 0
    carried = 0
    if sends is not None:
        carried += await _carry_sends(tx, limit, sends, marks.sends)
    if acks is not None:
        carried += await _carry_acks(tx, limit, acks, marks.acks)
    return carried


async def carry_all(tx: Transaction) -> None:
    """All that was committed before this, for who must see it: none of it is on its way afterwards."""
    sent, acked = await tx.row("is_anything_sent", HEAD), await tx.row("is_anything_acked", HEAD)
    if not any(found is not None and found[0] for found in (sent, acked)):
        return
    await tx.row("lock_outbox")
    while await _carry_sends(tx, CARRIED_MAX) >= CARRIED_MAX:
        await tx.flush()
    while await _carry_acks(tx, CARRIED_MAX) >= CARRIED_MAX:
        pass
    await tx.flush()


async def _carry_sends(tx: Transaction, limit: int, start: int = HEAD, mark: Mark | None = None) -> int:
    taken = await tx.rows("take_outbox", start, limit)
    if start != HEAD and any(_has_turn(text) for _, text, *_ in taken):  # one before the mark may have come late
        taken = await tx.rows("take_outbox", HEAD, limit) + taken
    await _append(tx, taken)
    if mark is not None and taken:
        mark.move(taken[-1][0])
    return len(taken)


async def _carry_acks(tx: Transaction, limit: int, start: int = HEAD, mark: Mark | None = None) -> int:
    acked = await tx.rows("acked_leases", start, limit)
    if acked:
        await settle.settle(tx, ACKED, [Settlement(seq, claims, is_member=True) for seq, claims in acked], {})
    if mark is not None and acked:
        mark.move(acked[-1][0])
    return len(acked)


def _has_turn(text: str) -> bool:
    draft = decode_draft(text)
    return draft.key is not None or draft.dedupe is not None


async def _append(tx: Transaction, taken: Sequence[Row]) -> None:
    sent = [(decode_draft(text, body), sent_at) for _, text, body, sent_at in taken]
    rows = {row.name: row for draft, _ in sent if (row := tx.catalog.meant(draft.queue)) is not None}
    sent = [
        (msgspec.structs.replace(draft, queue=row.name), sent_at)
        for draft, sent_at in sent
        if (row := tx.catalog.meant(draft.queue)) is not None  # as those of a queue that is deleted
    ]
    known = await known_keys(tx, rows, [draft for draft, _ in sent])
    for draft, sent_at in sent:
        await append_one(tx, rows[draft.queue], draft, known, sent_at=sent_at)
