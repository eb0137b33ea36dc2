"""From the outbox into the queues: what users' own transactions sent and acked before their COMMIT.

The second half of T1 and T3 for them: sequence numbers, keys, counters and levels are those of the moment at which a
message is carried over, under the catalog's lock as for any other send, and it lies in exactly one place before and
after. Limits were checked when it was sent. One carrier at a time, so that what was committed first comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from conveyor.model.message import Draft
from conveyor.model.verdict import Settlement
from conveyor.store.postgres import settle
from conveyor.store.postgres.append import append_one, known_keys
from conveyor.store.postgres.marks import HEAD, Level, Place
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
    """Some of what is there, unless somebody else is carrying it; how much.

    Begins where the last look ended, and now and then at the very head, as claims do: under a held snapshot the entries
    of all that was ever carried are still there.
    """
    sends, acks = await _look(tx, _SENDS), await _look(tx, _ACKS)
    if sends is None and acks is None:
        return 0
    is_ours = await tx.row("try_outbox")
    if is_ours is None or not is_ours[0]:
        return 0
    return (await _carry_sends(tx, limit, sends) if sends else 0) + (await _carry_acks(tx, limit, acks) if acks else 0)


async def carry_all(tx: Transaction) -> None:
    """All that was committed before this, for who must see it: none of it is on its way afterwards."""
    found = [await tx.row(level.look, HEAD[1]) for level in (_SENDS, _ACKS)]
    if not any(each is not None and each[0] for each in found):
        return
    await tx.row("lock_outbox")
    while await _carry_sends(tx, CARRIED_MAX) >= CARRIED_MAX:
        await tx.flush()
    while await _carry_acks(tx, CARRIED_MAX) >= CARRIED_MAX:
        pass
    await tx.flush()


class _Level(NamedTuple):
    """One kind of what lies there."""

    mark: Level
    look: str
    """The statement that says whether there is anything."""


class _Look(NamedTuple):
    """Where one began that found something."""

    start: Place
    began: float
    changes: int


_SENDS: Final = _Level((-1, 0, 0), "is_anything_sent")
_ACKS: Final = _Level((-1, 1, 0), "is_anything_acked")


async def _look(tx: Transaction, level: _Level) -> _Look | None:
    """None: nothing is there, as far as this one went; or it would be dear, and there was one not long ago."""
    start = tx.marks.start(level.mark)
    if start == HEAD and not tx.marks.is_worth_a_look(level.mark):
        return None
    look = _Look(start, tx.marks.monotonic(), tx.marks.changes)
    found = await tx.row(level.look, start[1])
    if found is not None and found[0]:
        return look
    _note(tx, level, look, None)
    return None


def _note(tx: Transaction, level: _Level, look: _Look, last: int | None) -> None:
    end = None if last is None else (HEAD[0], last)
    if look.start == HEAD:
        tx.marks.looked(level.mark, end, look.began, look.changes)
    elif end is not None:
        tx.marks.moved(level.mark, end, look.changes)


async def _carry_sends(tx: Transaction, limit: int, look: _Look | None = None) -> int:
    start = HEAD if look is None else look.start
    taken = await tx.rows("take_outbox", start[1], limit)
    if start != HEAD and any(_has_turn(text) for _, text, *_ in taken):  # one before the mark may have come late
        taken = await tx.rows("take_outbox", HEAD[1], limit) + taken
    await _append(tx, taken)
    if look is not None:  # last: the transaction may have to begin again, to hold the catalog alone
        _note(tx, _SENDS, look, taken[-1][0] if taken else None)
    return len(taken)


async def _carry_acks(tx: Transaction, limit: int, look: _Look | None = None) -> int:
    start = HEAD if look is None else look.start
    acked = await tx.rows("acked_leases", start[1], limit)
    if acked:
        await settle.settle(tx, ACKED, [Settlement(seq, claims) for seq, claims in acked], {})
    if look is not None:
        _note(tx, _ACKS, look, acked[-1][0] if acked else None)
    return len(acked)


def _has_turn(text: str) -> bool:
    draft = decode_draft(text)
    return draft.key is not None or draft.dedupe is not None


async def _append(tx: Transaction, taken: Sequence[Row]) -> None:
    sent = [(decode_draft(text, body), sent_at) for _, text, body, sent_at in taken]
    sent = [each for each in sent if tx.catalog.find(each[0].queue) is not None]  # as those of a queue that is deleted
    rows = {draft.queue: tx.catalog.get(draft.queue) for draft, _ in sent}
    known = await known_keys(tx, rows, [draft for draft, _ in sent])
    for draft, sent_at in sent:
        await append_one(tx, rows[draft.queue], draft, known, sent_at=sent_at)
