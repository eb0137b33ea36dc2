"""The store's front: each method is an operation, run in one transaction on one of a few connections. What an operation
does stands in the room of its name."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

import msgspec

from conveyor.model.clock import Clock
from conveyor.model.errors import StoreClosedError
from conveyor.model.events import Emit
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Draft, Peeked, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.host import boot_name
from conveyor.store.postgres import outbox, queues, reconcile, schedules, scouting, settle, sweep, ways
from conveyor.store.postgres import owners as workers
from conveyor.store.postgres.alarms import Alarms
from conveyor.store.postgres.append import Depths
from conveyor.store.postgres.bell import Bell
from conveyor.store.postgres.clock import ServerClock
from conveyor.store.postgres.deliveries import Deliveries
from conveyor.store.postgres.documents import Documents
from conveyor.store.postgres.door import Door
from conveyor.store.postgres.faults import DRIVER_ERRORS, is_lost, translate
from conveyor.store.postgres.flusher import Flusher
from conveyor.store.postgres.group_store import PostgresGroups
from conveyor.store.postgres.job_store import PostgresJobs
from conveyor.store.postgres.joined import Home, JoinedTransaction
from conveyor.store.postgres.kv import KeyValues
from conveyor.store.postgres.link import CLOSE_S, Durability, Shared
from conveyor.store.postgres.marks import split_put_back
from conveyor.store.postgres.migrating import migrate
from conveyor.store.postgres.opening import Address, Seen, read_address
from conveyor.store.postgres.pool import Pool
from conveyor.store.postgres.relay import Relay
from conveyor.store.postgres.renaming import rename_queue
from conveyor.store.postgres.reports import PostgresNotices, PostgresReports
from conveyor.store.postgres.retaining import PostgresRetention
from conveyor.store.postgres.statements import SQL
from conveyor.store.postgres.step_store import PostgresSteps
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.postgres.witnessed import Witnessed
from conveyor.store.protocol import Wake
from conveyor.store.records import (
    SWEEP_ROWS_MAX,
    Claimed,
    ClaimRequest,
    Evidence,
    Fired,
    Firing,
    OwnerInfo,
    OwnerRow,
    QueueInfo,
    QueueMetrics,
    Reaped,
    Run,
    Schedule,
    ScheduleDraft,
    Settled,
    Swept,
)
from conveyor.store.undivided import Undivided

T = TypeVar("T")

_RELAXED = Durability.RELAXED


class PostgresStore(Witnessed, Alarms, Deliveries, Documents, KeyValues, Undivided):
    """`Store` in one schema of a PostgreSQL database, shared by any number of machines. `clock` is for tests; `emit`
    hears when the server goes away and comes back."""

    def __init__(self, url: str, *, clock: Clock | None = None, emit: Emit | None = None) -> None:
        self._address = read_address(url)
        self._seen: Seen | None = None
        self._emit: Emit = emit or (lambda _event: None)
        self._server_clock = ServerClock() if clock is None else None
        self._clock: Clock = clock or self._server_clock or ServerClock()
        self._depths = Depths()
        self._shared: Shared | None = None
        self._pool: Pool | None = None
        self._flusher: Flusher | None = None
        self._bell: Bell | None = None
        self._outbox = outbox.Marks()
        self.jobs = PostgresJobs(self._run, self._change, self._depths)
        self.steps = PostgresSteps(self._run, self._change)
        self.reports = PostgresReports(self._run)
        self.notices = PostgresNotices(self._run)
        self.groups = PostgresGroups(self._run, self._change)
        self.retention = PostgresRetention(self._run)
        self._relay: Relay | None = None
        self._home: Home | None = None
        self._door: Door | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._wakes: list[Wake] = []

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def host(self) -> str:
        return boot_name()

    def join(self, tx: object) -> JoinedTransaction:
        if self._home is None:
            raise StoreClosedError
        return JoinedTransaction(tx, self._home)

    async def open(self) -> None:
        """Waits for a server that is away, as every call does. A fork of a process that has opened it asks for nothing:
        what was seen there still stands."""
        seen = self._seen if self._seen is not None and self._seen.pid != os.getpid() else None
        address = await self._prepare() if seen is None else seen.address
        try:
            shared, relay = self._begin(address)
            if seen is None:
                store_id = await self._run(outbox.read_store_id, _RELAXED)  # and sets the clock
                self._seen = seen = Seen(os.getpid(), address, store_id)
            self._home = Home(address, seen.store_id, shared.bound_now, relay.expect)
        except BaseException:  # also cancelled: what is open has nobody else to close it
            await self.close()
            raise

    def _begin(self, address: Address) -> tuple[Shared, Relay]:
        shared = self._shared = Shared(address.schema, self._clock, self._server_clock)
        door = self._door = self._make_door(address)
        around = door if address.listen is None else self._make_door(read_address(address.listen))
        self._bell = Bell(around, f"conveyor:{address.schema}", self._hear)
        self._pool = Pool(door, shared, size=address.pool, tell=self._tell)
        pool = Pool(door, shared, size=2, tell=self._tell)
        self._flusher = Flusher(pool, door, self._depths, self._bell, self._notify)
        if self._wakes:
            self._bell.listen()
        self._relay = Relay(lambda: self._run(lambda tx: outbox.carry(tx, self._outbox), _RELAXED))
        return shared, self._relay

    def _make_door(self, address: Address) -> Door:
        return Door(address, emit=self._emit, chance=Random())

    async def _prepare(self) -> Address:
        """Migrate the schema, and learn whether a pooler is in between."""
        door = self._make_door(self._address)
        deadline, tries = door.deadline(), 0
        while True:
            connection = await door.connect(deadline)
            try:
                await migrate(connection, door.address)
                # a pooler keeps the session that it gives us to itself
                is_pooled = await connection.fetchval(SQL["read_session"]) != connection.get_server_pid()
                break
            except DRIVER_ERRORS as error:
                tries += 1
                if not is_lost(error) or door.is_past(deadline):
                    raise translate(error, door.address.where) from error
            finally:
                with contextlib.suppress(*DRIVER_ERRORS):
                    await connection.close(timeout=CLOSE_S)
            await door.rest(tries)
        said = self._address.pooler
        return msgspec.structs.replace(self._address, pooler=is_pooled if said is None else said)

    async def close(self) -> None:
        """Commits what was submitted; a store that is closed may be opened again."""
        relay, self._relay, self._home = self._relay, None, None
        if relay is not None:
            await relay.close()
        pool, self._pool = self._pool, None
        flusher, self._flusher = self._flusher, None
        bell, self._bell = self._bell, None
        door, self._door = self._door, None
        if pool is None or flusher is None or bell is None or door is None:
            return
        door.close()
        await flusher.stop()
        if self._running:
            await asyncio.wait(self._running)
        await pool.close()
        await bell.close()

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        self._wakes.append(wake)
        if self._bell is not None:
            self._bell.listen()

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._wakes.remove(wake)

        return unsubscribe

    def _tell(self, names: frozenset[str]) -> None:
        """After COMMIT."""
        self._notify(split_put_back(names)[0])
        if self._bell is not None:
            self._bell.ring(names)

    def _hear(self, words: frozenset[str]) -> None:
        """What other processes have committed."""
        names, put_back = split_put_back(words)
        if self._shared is not None:
            for level, place in put_back:
                self._shared.marks.lower(level, place)
        self._notify(names)

    def _notify(self, names: frozenset[str]) -> None:
        for wake in list(self._wakes):
            wake(names)

    async def _run(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        durability: Durability = Durability.SYNCED,
        *,
        exclusive: bool = False,
    ) -> T:
        return await self._in_task(self._open_pool.run(work, durability, exclusive=exclusive))

    async def _in_task(self, work: Coroutine[Any, Any, T]) -> T:
        """A caller that is cancelled neither breaks the connection nor withdraws the work."""
        return await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    @property
    def _open_pool(self) -> Pool:
        if self._pool is None:
            raise StoreClosedError
        return self._pool

    @property
    def _live(self) -> Flusher:
        if self._flusher is None:
            raise StoreClosedError
        return self._flusher

    # T1 to T8

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return await self._live.submit(drafts)

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        return await self._live.submit_and_claim(drafts, request)

    async def claim(self, request: ClaimRequest) -> Claimed:
        claimed = await self._in_task(ways.claim(self._open_pool, request))
        self._scout(request.queue)
        return claimed

    def _scout(self, queue: str) -> None:
        """Where a look at the very head of the queue is due and dear, have it in the background."""
        shared = self._shared
        row = None if shared is None else shared.catalog.find(queue)
        found = None if shared is None or row is None else shared.marks.send_scout(row.lane)
        if shared is not None and found is not None:
            self._start(scouting.scout(self._open_pool, shared.marks, *found))

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        return await self._in_task(ways.settle(self._open_pool, owner, settlements, ended or {}))

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        return await self._run(lambda tx: settle.settle_pulled(tx, settlements))

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        await self._run(lambda tx: settle.extend(tx, seq, claim, lease_ms), _RELAXED)

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        return await self._run(lambda tx: queues.peek(tx, queue, limit, after_seq), _RELAXED)

    # Queues and consumers

    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        return await self._change("queue", name, lambda tx: queues.create_queue(tx, name, settings), exclusive=True)

    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        return await self._change(
            "queue", name, lambda tx: queues.update_queue(tx, name, settings, version), exclusive=True
        )

    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        return await self._change("queue", name, lambda tx: rename_queue(tx, name, new, version), exclusive=True)

    async def delete_queue(self, name: str) -> None:
        await self._change("queue", name, lambda tx: queues.delete_queue(tx, name), exclusive=True)

    async def get_queue(self, name: str) -> QueueInfo:
        return await self._run(lambda tx: queues.get_queue(tx, name), _RELAXED)

    async def list_queues(self) -> list[QueueInfo]:
        return await self._run(queues.list_queues, _RELAXED)

    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        return await self._change(
            "queue", queue, lambda tx: queues.declare_consumer(tx, queue, settings), exclusive=True
        )

    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        return await self._change(
            "queue", queue, lambda tx: queues.put_consumer(tx, queue, settings, version), exclusive=True
        )

    async def pause(self, queue: str) -> None:
        await self._change("queue", queue, lambda tx: queues.pause(tx, queue), exclusive=True)

    async def resume(self, queue: str) -> None:
        await self._change("queue", queue, lambda tx: queues.resume(tx, queue), exclusive=True)

    async def purge(self, queue: str) -> int:
        return await self._change("queue", queue, lambda tx: queues.purge(tx, queue), exclusive=True)

    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        return await self._change("queue", queue, lambda tx: queues.redrive(tx, queue, seqs, limit))

    async def discard(self, queue: str, seqs: Sequence[int]) -> list[int]:
        return await self._change("queue", queue, lambda tx: settle.discard(tx, queue, seqs))

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        return await self._run(lambda tx: queues.find_message(tx, queue, message_id), _RELAXED)

    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        name = f"{was.queue}/{was.id.hex()}"
        return await self._change(
            "message", name, lambda tx: queues.edit_message(tx, was, body, content_type, headers)
        )

    async def metrics(self, queue: str) -> QueueMetrics:
        return await self._run(lambda tx: queues.metrics(tx, queue), _RELAXED)

    # Owners

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        return await self._run(lambda tx: workers.register_owner(tx, info, owner), _RELAXED)

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        return await self._run(lambda tx: workers.renew_owners(tx, owners), _RELAXED)

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        return await self._run(lambda tx: workers.reap_owner(tx, owner, evidence))

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        return await self._run(lambda tx: reconcile.reconcile(tx, owner, queue, held, calls), _RELAXED)

    async def list_owners(self) -> list[OwnerRow]:
        return await self._run(workers.list_owners, _RELAXED)

    async def sweep(self) -> Swept:
        swept = await self._run(lambda tx: sweep.sweep(tx, self._outbox), _RELAXED)
        return msgspec.structs.replace(swept, groups=await self.groups.sweep())

    # Schedules

    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        return await self._change("schedule", draft.name, lambda tx: schedules.declare_schedule(tx, draft, next_tick))

    async def list_schedules(self) -> list[Schedule]:
        return await self._run(schedules.list_schedules, _RELAXED)

    async def get_schedule(self, name: str) -> Schedule:
        return await self._run(lambda tx: schedules.get_schedule(tx, name), _RELAXED)

    async def fire(self, firing: Firing) -> Fired:
        return await self._change("schedule", firing.schedule, lambda tx: schedules.fire(tx, firing, self._depths))

    async def pause_schedule(self, name: str) -> None:
        await self._change("schedule", name, lambda tx: schedules.pause_schedule(tx, name))

    async def resume_schedule(self, name: str, next_tick: int | None) -> None:
        await self._change("schedule", name, lambda tx: schedules.resume_schedule(tx, name, next_tick))

    async def begin_run(self, schedule: str, tick: int) -> None:
        await self._run(lambda tx: schedules.begin_run(tx, schedule, tick), _RELAXED)

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None:
        await self._run(lambda tx: schedules.finish_run(tx, schedule, tick, error))

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        return await self._run(lambda tx: schedules.list_runs(tx, schedule, limit, before_tick), _RELAXED)
