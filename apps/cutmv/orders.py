"""How orders stand: a table that reports change, and a numbered event for each change. Nothing goes backwards."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from conveyor_apps.tables import Database, Transaction

from . import clock
from .errors import RefusedError
from .hub import Hub
from .reports import Kind, Report
from .words import Order, Wish

EVENTS_KEPT: Final = 2_000
"""Of each order; who missed more gets the order as it stands."""

UNDER_WAY_MAX: Final = 5_000


class State(StrEnum):
    """Of an order."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing happens any more, unless somebody asks for another try."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Way(StrEnum):
    """Who works on an order."""

    QUEUE = "queue"
    DIRECT = "direct"


class OutputView(msgspec.Struct, frozen=True, kw_only=True):
    """One output, as browsers see it."""

    name: str
    format: str
    clip: int
    fraction: float
    speed: float | None
    size: int | None
    """None until it can be downloaded."""


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order, as browsers see it."""

    id: str
    upload: str
    wish: Wish
    state: State
    way: Way | None
    attempt: int
    error: str | None
    fraction: float
    seq: int
    """Of its latest event."""
    created_at: str
    started_at: str | None
    ended_at: str | None
    outputs: list[OutputView]


@dataclass(frozen=True, slots=True)
class _Row:
    order: Order
    generation: int
    state: State
    way: Way | None
    attempt: int
    error: str | None
    seq: int
    created_at: int
    started_at: int | None
    ended_at: int | None


class Orders:
    """All of them. Only the process that serves browsers changes them, so that it hears of every change."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._database = database
        self._hub = hub
        self.on_failed: Any = None
        """Called with each order that failed for good, and why."""

    async def add(self, order: Order) -> None:
        """A new one, before it is sent anywhere. `RefusedError` while too many are under way."""

        def work(tx: Transaction) -> None:
            if tx.rows("under_way")[0][0] >= UNDER_WAY_MAX:
                raise RefusedError("There is too much to do right now: please try again later.", status=429)
            tx.change("add_order", id=order.id, body=msgspec.json.encode(order).decode())
            for position, each in enumerate(order.outputs()):
                facts: dict[str, str | int] = {
                    "position": position,
                    "name": each.name,
                    "format": each.format,
                    "clip": each.clip,
                }
                tx.change("add_output", id=order.id, **facts)

        await self._database.write(work)

    async def set_way(self, order: Order, way: Way | None) -> None:
        """Who takes it; None: whoever comes first."""
        await self._database.write(lambda tx: tx.change("set_way", id=order.id, way=way, generation=order.generation))

    async def take(self, report: Report, *, way: Way) -> bool:
        """Let a report change its order; whether the worker is to stop. The same report may come twice."""
        stop, events = await self._database.write(lambda tx: _take(tx, report, way))
        self._publish(report.order, events)
        if report.kind is Kind.FAILED and events and self.on_failed is not None:
            await self.on_failed(report.order, report.error or "")
        return stop

    async def cancel(self, order: str) -> bool:
        """Whether it was under way. Its worker hears of it with its next report."""
        return await self._set(order, State.CANCELLED, None)

    async def fail(self, order: str, error: str) -> bool:
        """Whether it was under way: for what no worker tells of."""
        failed = await self._set(order, State.FAILED, error)
        if failed and self.on_failed is not None:
            await self.on_failed(order, error)
        return failed

    async def _set(self, order: str, state: State, error: str | None) -> bool:
        def work(tx: Transaction) -> list[tuple[int, str]]:
            row = _find(tx, order)
            return [] if row is None or row.state.is_final else [_change(tx, row, state, error=error)]

        events = await self._database.write(work)
        self._publish(order, events)
        return bool(events)

    async def again(self, order: str) -> Order:
        """Another try of one that failed or was cancelled; outputs that are there are kept. `RefusedError`."""

        def work(tx: Transaction) -> tuple[Order, tuple[int, str]]:
            row = _find(tx, order)
            if row is None:
                raise RefusedError("There is no such order.", status=404)
            if row.state not in (State.FAILED, State.CANCELLED):
                raise RefusedError("Only an order that failed or was cancelled can be tried again.", status=409)
            tx.change("next_generation", id=order)
            tx.change("rewind", id=order)
            event = _change(tx, row, State.QUEUED, attempt=0)
            found = _find(tx, order)
            assert found is not None
            return found.order, event

        found, event = await self._database.write(work)
        self._publish(order, [event])
        return found

    async def delete(self, order: str) -> None:
        """It is not kept any more."""
        await self._database.write(lambda tx: tx.change("delete_order", id=order))

    async def view(self, order: str) -> OrderView | None:
        """One as it stands."""
        return await self._database.read(lambda tx: _view(tx, order))

    async def events_after(self, order: str, seq: int) -> list[tuple[int, str]]:
        """Those that a browser missed; as it stands, if the events after `seq` are not all kept. Empty for an order
        that is not there."""

        def work(tx: Transaction) -> list[tuple[int, str]]:
            rows = [(int(number), str(text)) for number, text in tx.rows("events_after", id=order, seq=seq)]
            view = _view(tx, order) if not rows or rows[0][0] != seq + 1 else None
            if view is None or view.seq == seq:
                return rows
            return [(view.seq, msgspec.json.encode({"snapshot": view, "order": order, "seq": view.seq}).decode())]

        return await self._database.read(work)

    async def adrift(self) -> list[Order]:
        """After a start: what no queue holds."""
        rows = await self._database.read(lambda tx: tx.rows("adrift"))
        return [msgspec.json.decode(body, type=Order) for (body,) in rows]

    async def silent(self, *, for_ms: int) -> list[Order]:
        """Under way, and nobody told anything of it for so long."""
        before = clock.now_ms() - for_ms
        rows = await self._database.read(lambda tx: tx.rows("silent", before=before))
        return [msgspec.json.decode(body, type=Order) for (body,) in rows]

    async def ends(self) -> tuple[list[tuple[str, str, int, float]], dict[str, int]]:
        """How orders ended since the file was made (state, way, how many, seconds in all), and how many are in
        which state."""

        def work(tx: Transaction) -> tuple[list[tuple[str, str, int, float]], dict[str, int]]:
            ends = [(str(a), str(b), int(c), float(d)) for a, b, c, d in tx.rows("ends")]
            return ends, {str(state): int(count) for state, count in tx.rows("states")}

        return await self._database.read(work)

    def _publish(self, order: str, events: list[tuple[int, str]]) -> None:
        for seq, text in events:
            self._hub.publish(order, seq, text)


def new_order_id() -> str:
    """As in the document, `cutmv_NUMBER_SECONDS`; it cannot be guessed, for whoever has the id has the order."""
    return f"cutmv_{secrets.randbits(96)}_{clock.now_ms() // 1000}"


def _find(tx: Transaction, order: str) -> _Row | None:
    rows = tx.rows("find_order", id=order)
    if not rows:
        return None
    _, body, generation, state, way, attempt, error, seq, created_at, started_at, ended_at = rows[0]
    found = msgspec.json.decode(body, type=Order)
    return _Row(
        found, generation, State(state), Way(way) if way else None, attempt, error, seq,
        created_at, started_at, ended_at,
    )  # fmt: skip


def _take(tx: Transaction, report: Report, way: Way) -> tuple[bool, list[tuple[int, str]]]:
    row = _find(tx, report.order)
    if row is None or row.state.is_final or report.generation != row.generation:
        return True, []
    if row.way is Way.DIRECT and way is Way.QUEUE:  # it was sent after all, but somebody else is at it
        return True, []
    if report.output is not None:
        tx.change("heard", id=report.order)
        size = report.size if report.kind is Kind.OUTPUT else None
        changed = tx.change(
            "forward", id=report.order, name=report.output, size=size, speed=report.speed,
            fraction=1.0 if size is not None else min(0.99, max(0.0, report.fraction)),
        )  # fmt: skip
        if not changed:
            return False, []
        return False, [_change(tx, row, State.RUNNING, attempt=report.attempt, output=report.output)]
    state = {Kind.DONE: State.SUCCEEDED, Kind.FAILED: State.FAILED, Kind.RETRYING: State.RETRYING}.get(
        report.kind, State.RUNNING
    )
    if state is State.SUCCEEDED and tx.rows("fraction_of", id=report.order)[0][1]:
        return False, []  # not all of it is here: this cannot be
    return False, [_change(tx, row, state, attempt=report.attempt, error=report.error)]


def _change(
    tx: Transaction, row: _Row, state: State, *, attempt: int | None = None, error: str | None = None,
    output: str | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Write how the order stands now, and the event that says so."""
    order, attempt = row.order.id, row.attempt if attempt is None else attempt
    tx.change("set_order", id=order, state=state, attempt=attempt, error=error)
    seq = row.seq + 1
    event: dict[str, Any] = {
        "order": order, "seq": seq, "at": clock.iso(tx.now_ms), "state": state, "attempt": attempt, "error": error,
        "fraction": tx.rows("fraction_of", id=order)[0][0],
    }  # fmt: skip
    if output is not None:
        event["output"] = next(each for each in _outputs(tx, order) if each.name == output)
    text = msgspec.json.encode(event).decode()
    tx.change("add_event", id=order, seq=seq, body=text)
    if seq % 100 == 0:
        tx.change("forget_events", id=order, seq=seq - EVENTS_KEPT)
    if state.is_final:
        seconds = (tx.now_ms - (row.started_at or tx.now_ms)) / 1000
        tx.change("count_end", state=state, way=row.way or "none", seconds=seconds)
    return seq, text


def _outputs(tx: Transaction, order: str) -> list[OutputView]:
    return [
        OutputView(name=name, format=format, clip=clip, fraction=fraction, speed=speed, size=size)
        for name, format, clip, fraction, speed, size in tx.rows("outputs_of", id=order)
    ]


def _view(tx: Transaction, order: str) -> OrderView | None:
    row = _find(tx, order)
    if row is None:
        return None
    return OrderView(
        id=order, upload=row.order.upload, wish=row.order.wish, state=row.state, way=row.way, attempt=row.attempt,
        error=row.error, fraction=tx.rows("fraction_of", id=order)[0][0], seq=row.seq,
        created_at=clock.iso(row.created_at),
        started_at=clock.iso(row.started_at) if row.started_at else None,
        ended_at=clock.iso(row.ended_at) if row.ended_at else None,
        outputs=_outputs(tx, order),
    )  # fmt: skip
