"""T1 send: drafts become READY messages, all of a call or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from conveyor.model.clock import SystemClock
from conveyor.model.errors import QueueFullError
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Draft, Sent
from conveyor.model.settings import QueueSettings
from conveyor.store.postgres import catalog
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import BEHIND, WAITING, Draught, Transaction

CONTENT_CODES: Final = {ContentType.JSON: 0, ContentType.TEXT: 1, ContentType.BYTES: 2}
CONTENT_TYPES: Final = (ContentType.JSON, ContentType.TEXT, ContentType.BYTES)

DEPTH_S: Final = 1.0
DEPTH_MESSAGES_FAR: Final = 100_000
DEPTH_BYTES_FAR: Final = 1_000_000_000
"""A limit this far off is not reached by anybody within `DEPTH_S`."""
_ANY: Final = 2**62


class Deep(Protocol):
    """A queue with limits."""

    @property
    def lane(self) -> int: ...

    @property
    def settings(self) -> QueueSettings: ...


class Depths:
    """How deep each lane was when it was last summed: who is far from a limit need not sum again for a while."""

    def __init__(self) -> None:
        self._clock = SystemClock()  # how old a sum is, is a matter of real time
        self._known: dict[int, tuple[float, int, int]] = {}

    def is_far(self, row: Deep, messages: int, size: int) -> bool:
        known = self._known.get(row.lane)
        if known is None or self._clock.monotonic() - known[0] > DEPTH_S:
            return False
        settings = row.settings
        most = settings.max_backlog_messages
        return (most is None or known[1] + messages + DEPTH_MESSAGES_FAR < most) and known[
            2
        ] + size + DEPTH_BYTES_FAR < settings.max_backlog_bytes

    def rooms(self, row: QueueRow, messages: int, size: int) -> tuple[int, int]:
        """The messages and bytes that may lie in the lane for both limits to be far from one who adds as many."""
        most = row.settings.max_backlog_messages
        return (
            _ANY if most is None else most - messages - DEPTH_MESSAGES_FAR,
            row.settings.max_backlog_bytes - size - DEPTH_BYTES_FAR,
        )

    def learn(self, lane: int, messages: int, size: int) -> None:
        self._known[lane] = (self._clock.monotonic(), messages, size)


async def append(tx: Transaction, drafts: Sequence[Draft], depths: Depths) -> list[Sent]:
    """`QueueNotFoundError`, `QueueFullError`, `InvalidMessageError`, before anything is buffered."""
    rows = {draft.queue: tx.catalog.get(draft.queue) for draft in drafts}
    for draft in drafts:
        if draft.cost != 1 and (consumer := rows[draft.queue].consumer) is not None:
            consumer.check_cost(draft.cost)
    known = await known_keys(tx, rows, drafts)
    for name, row in rows.items():
        sizes = [len(draft.body) for draft in _new(drafts, known) if draft.queue == name]
        await _check_backlog(tx, row, len(sizes), sum(sizes), depths)
    return [await append_one(tx, rows[draft.queue], draft, known) for draft in drafts]


_Known = dict[tuple[str, str], MessageId]


async def known_keys(tx: Transaction, rows: dict[str, QueueRow], drafts: Sequence[Draft]) -> _Known:
    """The messages that hold the drafts' dedupe keys now."""
    keys = [(draft.queue, draft.dedupe) for draft in drafts if draft.dedupe is not None]
    if not keys:
        return {}
    await tx.row("lock_dedupe", [rows[queue].lane for queue, _ in keys], [key for _, key in keys])
    known: _Known = {}
    for queue, key in keys:
        lane = rows[queue].lane
        here = tx.dedupe_here(lane, key)
        if here is not None:
            known[queue, key] = MessageId(here)
            continue
        found = await tx.row("find_dedupe", lane, key, tx.now)
        if found is not None:
            known[queue, key] = found[0]
    return known


def _new(drafts: Sequence[Draft], known: _Known) -> list[Draft]:
    """The first of each dedupe key that is not known, and all that have none."""
    seen = set(known)
    kept: list[Draft] = []
    for draft in drafts:
        if draft.dedupe is not None:
            if (draft.queue, draft.dedupe) in seen:
                continue
            seen.add((draft.queue, draft.dedupe))
        kept.append(draft)
    return kept


async def _check_backlog(tx: Transaction, row: QueueRow, messages: int, size: int, depths: Depths) -> None:
    here = tx.counted(row.lane)
    if depths.is_far(row, messages + here[0], size + here[1]):
        return
    waiting, waiting_bytes = await tx.backlog(row.lane)
    depths.learn(row.lane, waiting, waiting_bytes)
    if not depths.is_far(row, messages, size):  # near: from here on one sender after the other
        await tx.lock_lane(row.lane)
        on_their_way = await tx.row("read_outbox_depth", row.name)
        waiting, waiting_bytes = await tx.backlog(row.lane)
        if on_their_way is not None:
            waiting, waiting_bytes = waiting + on_their_way[0], waiting_bytes + on_their_way[1]
    check_depth(row.name, row.settings, waiting + messages, waiting_bytes + size)


def check_depth(name: str, settings: QueueSettings, messages: int, size: int) -> None:
    """`QueueFullError` if so much may not lie in the queue."""
    limit = settings.max_backlog_messages
    if limit is not None and messages > limit:
        raise QueueFullError(name, "messages", messages, limit)
    if size > settings.max_backlog_bytes:
        raise QueueFullError(name, "bytes", size, settings.max_backlog_bytes)


async def append_one(
    tx: Transaction, row: QueueRow, draft: Draft, known: _Known | None = None, *, sent_at: int | None = None
) -> Sent:
    """One draft, unless its dedupe key is live. `sent_at`: what was sent earlier, and comes only now."""
    if draft.dedupe is not None and known is not None:
        present = known.get((draft.queue, draft.dedupe))
        if present is not None:
            return Sent(present, deduped=True)
        known[draft.queue, draft.dedupe] = draft.id
    now = tx.now if sent_at is None else sent_at
    await use_level(tx, row, draft.priority)
    tx.insert(
        Draught(
            lane=row.lane,
            id=draft.id,
            body=draft.body,
            content=CONTENT_CODES[draft.content_type],
            sent_at=now,
            ready_at=max(tx.now, now + (row.settings.delivery_delay_ms if draft.delay_ms is None else draft.delay_ms)),
            priority=draft.priority,
            key=draft.key,
            headers=draft.headers,
            expires_at=None if draft.expires_in_ms is None else now + draft.expires_in_ms,
            max_retries=draft.max_retries,
            dedupe=draft.dedupe,
            dedupe_until=now + (row.settings.dedupe_window_ms if draft.dedupe_ms is None else draft.dedupe_ms),
            cost=draft.cost,
            gate_key=row.gate_key(draft.key) if row.gates_keys else None,
            place=BEHIND if row.is_fair else WAITING,
        )
    )
    tx.woken.add(row.name)
    return Sent(draft.id)


async def use_level(tx: Transaction, row: QueueRow, priority: int) -> None:
    """Claims probe only the levels that were ever used."""
    if not row.levels >> priority & 1 and not tx.catalog.get(row.name).levels >> priority & 1:
        tx.require_catalog()
        await tx.run("add_level", 1 << priority, row.lane)
        await catalog.bump(tx)
