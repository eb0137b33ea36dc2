"""Rates, and how keys stand before a claim. Rows exist only for queues with a rate, and where a handler has made a key
rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.model.rate import Window
from conveyor.store.gates import Candidate, Gate, KeyState
from conveyor.store.postgres import catalog
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.resting import latest_of


async def open_gate(tx: Transaction, row: QueueRow) -> Gate:
    """The gate of a claim that begins now."""
    consumer = row.consumer
    assert consumer is not None, "only a consumer has limits"
    window = None
    if consumer.rate is not None:
        found = await tx.row("read_window", row.name, "")
        window = Window.decode(consumer.rate, None if found is None else found[1])
    return Gate(consumer, tx.now, row.settings.retention_ms, window)


async def read_states(tx: Transaction, row: QueueRow, gate: Gate, names: Iterable[str]) -> None:
    """Let the gate know these keys."""
    consumer = gate.consumer
    unknown = [key for key in names if key not in gate.states]
    if not unknown:
        return
    if not consumer.limits_keys and not row.closes_keys:  # only turns: there is nothing to be known
        gate.states.update(dict.fromkeys(unknown, KeyState()))
        return
    for key, leased, first, entries, opens_at in await tx.rows(
        "key_states", consumer.limits_keys, row.lane, consumer.ordered, unknown, row.name, row.closes_keys
    ):
        gate.states[key] = KeyState(
            leased=leased,
            first=first,
            window=None if consumer.key_rate is None else Window.decode(consumer.key_rate, entries),
            rests_until=opens_at or 0,
        )


async def close_gate(
    tx: Transaction, row: QueueRow, gate: Gate, taken: Sequence[Candidate], left: Sequence[Candidate]
) -> dict[str, int]:
    """Write what the claim has used up. Keys that it left open, by how many messages they gave."""
    changed = gate.close(taken, left)
    left_open = gate.left_open(changed, taken)
    if gate.window is not None and taken:
        changed[""] = gate.window, 0
    written = [
        (key, "[]" if window is None else window.encode(), 0 if window is None else window.ends_at, opens_at or None)
        for key, (window, opens_at) in sorted(changed.items())
    ]
    if written:
        await tx.run("put_windows", row.name, *zip(*written, strict=True))
    return left_open


async def end_stale_rests(tx: Transaction, row: QueueRow) -> None:
    """Those of before the clock was set back."""
    latest = latest_of(None if row.consumer is None else row.consumer.key_rate, tx.now)
    if row.throttled_until > latest.rest:
        tx.require_catalog()
        await tx.run("end_throttle", row.lane)
        await catalog.bump(tx)
        tx.wake(row)
    if row.closes_keys and await tx.run(
        "open_stale_keys", tx.now, row.name, latest.opening, latest.rest, latest.window
    ):
        tx.wake(row)
