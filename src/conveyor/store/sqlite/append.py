"""T1 send: drafts become READY messages, all of a call or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conveyor.model.errors import QueueFullError
from conveyor.model.message import ContentType, Draft, Sent
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.keys import add_key
from conveyor.store.sqlite.transaction import Transaction

CONTENT_CODES: Final = {ContentType.JSON: 0, ContentType.TEXT: 1, ContentType.BYTES: 2}
CONTENT_TYPES: Final = (ContentType.JSON, ContentType.TEXT, ContentType.BYTES)


def append(tx: Transaction, drafts: Sequence[Draft]) -> list[Sent]:
    """`QueueNotFoundError`, `QueueFullError`, `InvalidMessageError`, before anything is written."""
    if len(drafts) == 1 and drafts[0].dedupe is None:
        draft = drafts[0]
        row = tx.catalog.get(tx, draft.queue)
        _check_cost(row, draft)
        _check_backlog(tx, row, 1, len(draft.body))
        return [append_one(tx, row, draft)]
    rows = {name: tx.catalog.get(tx, name) for name in {draft.queue for draft in drafts}}
    for draft in drafts:
        _check_cost(rows[draft.queue], draft)
    new = [draft for draft in _without_repeats(drafts) if not _is_known(tx, rows[draft.queue], draft)]
    for name, row in rows.items():
        sizes = [len(draft.body) for draft in new if draft.queue == name]
        _check_backlog(tx, row, len(sizes), sum(sizes))
    return [append_one(tx, rows[draft.queue], draft) for draft in drafts]


def _without_repeats(drafts: Sequence[Draft]) -> list[Draft]:
    """The first of each dedupe key, and all that have none."""
    seen: set[tuple[str, str]] = set()
    kept: list[Draft] = []
    for draft in drafts:
        if draft.dedupe is not None:
            if (draft.queue, draft.dedupe) in seen:
                continue
            seen.add((draft.queue, draft.dedupe))
        kept.append(draft)
    return kept


def _is_known(tx: Transaction, row: QueueRow, draft: Draft) -> bool:
    return draft.dedupe is not None and tx.row("find_dedupe", row.lane, draft.dedupe, tx.now) is not None


def _check_cost(row: QueueRow, draft: Draft) -> None:
    if draft.cost != 1 and row.consumer is not None:
        row.consumer.check_cost(draft.cost)


def _check_backlog(tx: Transaction, row: QueueRow, messages: int, size: int) -> None:
    waiting, waiting_bytes = tx.backlog(row.lane)
    settings = row.settings
    limit = settings.max_backlog_messages
    if limit is not None and waiting + messages > limit:
        raise QueueFullError(row.name, "messages", waiting + messages, limit)
    if waiting_bytes + size > settings.max_backlog_bytes:
        raise QueueFullError(row.name, "bytes", waiting_bytes + size, settings.max_backlog_bytes)


def append_one(tx: Transaction, row: QueueRow, draft: Draft) -> Sent:
    """One draft, unless its dedupe key is live."""
    if draft.dedupe is not None:
        present = tx.row("find_dedupe", row.lane, draft.dedupe, tx.now)
        if present is not None:
            return Sent(present[0], deduped=True)
    seq, now, lane, body, priority = tx.next_seq(), tx.now, row.lane, draft.body, draft.priority
    ready_at = now + (row.settings.delivery_delay_ms if draft.delay_ms is None else draft.delay_ms)
    expires_at = None if draft.expires_in_ms is None else now + draft.expires_in_ms
    content = CONTENT_CODES[draft.content_type]
    tx.insert(
        # fmt: off
        (
            seq,
            lane,
            draft.id,
            body,
            content,
            now,
            ready_at,
            ready_at,
            priority,
            draft.key,
            draft.headers,
            expires_at,
            draft.max_retries,
            draft.dedupe,
        ),
        # fmt: on
        (lane, 0, priority, ready_at, seq, 0, 0, 0),
    )
    tx.count(lane, 1, len(body))
    if draft.dedupe is not None:
        if not row.uses_dedupe:
            tx.run("mark_uses_dedupe", lane)
            tx.catalog.bump(tx)
        window_ms = row.settings.dedupe_window_ms if draft.dedupe_ms is None else draft.dedupe_ms
        tx.run("put_dedupe", row.lane, draft.dedupe, seq, draft.id, tx.now + window_ms)
    if row.gates_keys and (key := row.gate_key(draft.key)) is not None:
        add_key(tx, row, key, seq, priority, ready_at)
    if draft.cost != 1:
        tx.insert_later("write_cost", (draft.cost, seq))
    if not row.levels >> priority & 1:
        use_level(tx, row, priority)
    tx.woken.add(row.name)
    return Sent(draft.id)


def use_level(tx: Transaction, row: QueueRow, priority: int) -> None:
    """Claims probe only the levels that were ever used."""
    tx.run("add_level", 1 << priority, row.lane)
    tx.catalog.bump(tx)
