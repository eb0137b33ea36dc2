"""Rates, and how keys stand before a claim. Rows exist only for queues with a rate, and where a handler has made a key
rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.model.rate import Window
from conveyor.store.gates import Candidate, Gate, KeyState
from conveyor.store.resting import latest_of
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.transaction import Transaction


def open_gate(tx: Transaction, row: QueueRow) -> Gate:
    """The gate of a claim that begins now."""
    consumer = row.consumer
    assert consumer is not None, "only a consumer has limits"
    window = None
    if consumer.rate is not None:
        found = tx.row("read_window", row.name, "")
        window = Window.decode(consumer.rate, None if found is None else found[1])
    return Gate(consumer, tx.now, row.settings.retention_ms, window)


def read_states(tx: Transaction, row: QueueRow, gate: Gate, names: Iterable[str]) -> None:
    """Let the gate know these keys."""
    consumer = gate.consumer
    unknown = [key for key in names if key not in gate.states]
    of_lane = [(row.lane, key) for key in unknown]
    leased: dict[str, int] = dict(
        tx.run_many("count_leased_of_key", [(key, lane) for lane, key in of_lane]) if consumer.limits_keys else []
    )
    firsts: dict[str, int] = dict(tx.run_many("head_of_key", of_lane) if consumer.ordered else [])
    found = tx.run_many("read_window", [(row.name, key) for key in unknown]) if row.closes_keys else []
    records = {key: (entries, opens_at) for key, entries, opens_at in found}
    for key in unknown:
        entries, opens_at = records.get(key, (None, None))
        gate.states[key] = KeyState(
            leased=leased.get(key, 0),
            first=firsts.get(key),
            window=None if consumer.key_rate is None else Window.decode(consumer.key_rate, entries),
            rests_until=opens_at or 0,
        )


def close_gate(
    tx: Transaction, row: QueueRow, gate: Gate, taken: Sequence[Candidate], left: Sequence[Candidate]
) -> dict[str, int]:
    """Write what the claim has used up. Keys that it left open, by how many messages they gave."""
    changed = gate.close(taken, left)
    left_open = gate.left_open(changed, taken)
    if gate.window is not None and taken:
        changed[""] = gate.window, 0
    written = [
        (
            row.name,
            key,
            "[]" if window is None else window.encode(),
            0 if window is None else window.ends_at,
            at or None,
        )
        for key, (window, at) in changed.items()
    ]
    if written:
        tx.run_many("put_window", written)
    return left_open


def end_stale_rests(tx: Transaction, row: QueueRow) -> None:
    """Those of before the clock was set back."""
    latest = latest_of(None if row.consumer is None else row.consumer.key_rate, tx.now)
    if row.throttled_until > latest.rest:
        tx.run("end_throttle", row.lane)
        tx.catalog.bump(tx)
        tx.wake(row)
    if row.closes_keys and tx.run("open_stale_keys", tx.now, row.name, latest.opening, latest.rest, latest.window):
        tx.wake(row)
