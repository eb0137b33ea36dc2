"""The store's front: each method hands an operation to the writer. What an operation does stands in the room of its
name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from conveyor.model.clock import Clock, SystemClock
from conveyor.model.errors import StoreClosedError
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Draft, Peeked, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.host import boot_name
from conveyor.store.protocol import Seal, Wake
from conveyor.store.records import (
    SWEEP_ROWS_MAX,
    Claimed,
    ClaimRequest,
    Document,
    Evidence,
    Fired,
    Firing,
    KeyInfo,
    KeyValue,
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
from conveyor.store.sqlite import append, claim, documents, kv, queues, reconcile, schedules, settle, sweep
from conveyor.store.sqlite import owners as workers
from conveyor.store.sqlite.alarms import Alarms
from conveyor.store.sqlite.checkpointer import Checkpointer
from conveyor.store.sqlite.deliveries import Deliveries
from conveyor.store.sqlite.group_store import SQLiteGroups
from conveyor.store.sqlite.job_store import SQLiteJobs
from conveyor.store.sqlite.joined import Bells, JoinedTransaction, read_connection
from conveyor.store.sqlite.opening import open_store, read_clock
from conveyor.store.sqlite.renaming import rename_queue
from conveyor.store.sqlite.reports import SQLiteNotices, SQLiteReports
from conveyor.store.sqlite.retaining import SQLiteRetention
from conveyor.store.sqlite.step_store import SQLiteSteps
from conveyor.store.sqlite.transaction import Transaction
from conveyor.store.sqlite.wake import Postbox
from conveyor.store.sqlite.witnessed import change
from conveyor.store.sqlite.writer import Durability, Writer
from conveyor.store.undivided import Undivided

T = TypeVar("T")

_RELAXED = Durability.RELAXED


class SQLiteStore(Alarms, Deliveries, Undivided):
    """`Store` in one SQLite file, shared by any number of processes of one machine. `clock` is for tests."""

    def __init__(self, path: str | Path, *, clock: Clock | None = None) -> None:
        self._path = Path(path)
        self._file = self._path  # absolute once it is open
        self._clock: Clock = clock or SystemClock()
        self._given_clock = clock
        self._writer: Writer | None = None
        self._checkpointer: Checkpointer | None = None
        self._postbox: Postbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: list[Wake] = []
        self._bells = Bells(self._ring)
        self.jobs = SQLiteJobs(lambda: self._live, self._change)
        self.steps = SQLiteSteps(lambda: self._live, self._change)
        self.reports = SQLiteReports(lambda: self._live)
        self.notices = SQLiteNotices(lambda: self._live)
        self.groups = SQLiteGroups(lambda: self._live, self._change)
        self.retention = SQLiteRetention(lambda: self._live)

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def host(self) -> str:
        return boot_name()

    async def open(self) -> None:
        if self._writer is not None:  # its loop ended without a close
            self._writer.stop()
        self._loop = asyncio.get_running_loop()
        connection, identity = open_store(self._path)
        self._file = Path(connection.filename)
        if self._given_clock is None:
            self._clock = read_clock(connection)
        self._checkpointer = Checkpointer(self._path)
        self._checkpointer.start()
        self._writer = Writer(self._path, self._clock, self._checkpointer, on_commit=self._tell)
        self._postbox = Postbox(identity)
        self._writer.start(connection, self._loop)

    async def close(self) -> None:
        """Commits what was submitted; a store that is closed may be opened again."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._stop_listening()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, writer.stop)
        if self._postbox is not None:
            self._postbox.close()
        if self._checkpointer is not None:
            await loop.run_in_executor(None, self._checkpointer.stop)

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        if not self._wakes:
            self._start_listening()
        self._wakes.append(wake)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._wakes.remove(wake)

        return unsubscribe

    def _start_listening(self) -> None:
        if self._postbox is None or self._loop is None or self._postbox.is_open:
            return
        if self._postbox.open():
            self._loop.add_reader(self._postbox.fileno(), self._postbox.read, self._notify)

    def _stop_listening(self) -> None:
        if self._postbox is not None and self._loop is not None and self._postbox.is_open:
            self._loop.remove_reader(self._postbox.fileno())

    def _tell(self, names: frozenset[str]) -> None:
        """On the writer's thread, after COMMIT."""
        loop, postbox = self._loop, self._postbox
        if self._wakes and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._notify, names)
        if postbox is not None:
            postbox.ring(names)

    def _ring(self, names: frozenset[str]) -> None:
        """While the user's own COMMIT runs, in the user's thread."""
        writer = self._writer
        if writer is not None:
            writer.wake_after(names)

    def _notify(self, names: frozenset[str]) -> None:
        for wake in list(self._wakes):
            wake(names)

    def join(self, tx: object) -> JoinedTransaction:
        if self._writer is None:
            raise StoreClosedError
        return JoinedTransaction(read_connection(tx, self._file), self._file, self._clock, self._bells)

    # T1 to T8

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return await self._live.submit(lambda tx: append.append(tx, drafts))

    async def claim(self, request: ClaimRequest) -> Claimed:
        return await self._live.submit(lambda tx: claim.claim(tx, request), _RELAXED)

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        return await self._live.submit(lambda tx: claim.append_and_claim(tx, drafts, request))

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        is_plain = all(each.action is Action.RELEASE and each.parks is None for each in settlements)
        durability = _RELAXED if is_plain else Durability.SYNCED
        return await self._live.submit(lambda tx: settle.settle(tx, owner, settlements, ended or {}), durability)

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        return await self._live.submit(lambda tx: settle.settle_pulled(tx, settlements))

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        await self._live.submit(lambda tx: settle.extend(tx, seq, claim, lease_ms), _RELAXED)

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        return await self._live.submit(lambda tx: queues.peek(tx, queue, limit, after_seq), _RELAXED)

    # Queues and consumers

    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        return await self._change("queue", name, lambda tx: queues.create_queue(tx, name, settings))

    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        return await self._change("queue", name, lambda tx: queues.update_queue(tx, name, settings, version))

    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        return await self._change("queue", name, lambda tx: rename_queue(tx, name, new, version))

    async def delete_queue(self, name: str) -> None:
        await self._change("queue", name, lambda tx: queues.delete_queue(tx, name))

    async def get_queue(self, name: str) -> QueueInfo:
        return await self._live.submit(lambda tx: queues.get_queue(tx, name), _RELAXED)

    async def list_queues(self) -> list[QueueInfo]:
        return await self._live.submit(queues.list_queues, _RELAXED)

    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        return await self._change("queue", queue, lambda tx: queues.declare_consumer(tx, queue, settings))

    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        return await self._change("queue", queue, lambda tx: queues.put_consumer(tx, queue, settings, version))

    async def pause(self, queue: str) -> None:
        await self._change("queue", queue, lambda tx: queues.pause(tx, queue))

    async def resume(self, queue: str) -> None:
        await self._change("queue", queue, lambda tx: queues.resume(tx, queue))

    async def purge(self, queue: str) -> int:
        return await self._change("queue", queue, lambda tx: queues.purge(tx, queue))

    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        return await self._change("queue", queue, lambda tx: queues.redrive(tx, queue, seqs, limit))

    async def discard(self, queue: str, seqs: Sequence[int]) -> list[int]:
        return await self._change("queue", queue, lambda tx: settle.discard(tx, queue, seqs))

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        return await self._live.submit(lambda tx: queues.find_message(tx, queue, message_id), _RELAXED)

    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        name = f"{was.queue}/{was.id.hex()}"
        return await self._change(
            "message", name, lambda tx: queues.edit_message(tx, was, body, content_type, headers)
        )

    async def metrics(self, queue: str) -> QueueMetrics:
        return await self._live.submit(lambda tx: queues.metrics(tx, queue), _RELAXED)

    # Owners

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        return await self._live.submit(lambda tx: workers.register_owner(tx, info, owner), _RELAXED)

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        return await self._live.submit(lambda tx: workers.renew_owners(tx, owners), _RELAXED)

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        return await self._live.submit(lambda tx: workers.reap_owner(tx, owner, evidence))

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        return await self._live.submit(lambda tx: reconcile.reconcile(tx, owner, queue, held, calls), _RELAXED)

    async def list_owners(self) -> list[OwnerRow]:
        return await self._live.submit(workers.list_owners, _RELAXED)

    async def sweep(self) -> Swept:
        swept = await self._live.submit(sweep.sweep, _RELAXED)
        return replace(swept, groups=await self.groups.sweep())

    # Schedules

    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        return await self._change("schedule", draft.name, lambda tx: schedules.declare_schedule(tx, draft, next_tick))

    async def list_schedules(self) -> list[Schedule]:
        return await self._live.submit(schedules.list_schedules, _RELAXED)

    async def get_schedule(self, name: str) -> Schedule:
        return await self._live.submit(lambda tx: schedules.get_schedule(tx, name), _RELAXED)

    async def fire(self, firing: Firing) -> Fired:
        return await self._change("schedule", firing.schedule, lambda tx: schedules.fire(tx, firing))

    async def pause_schedule(self, name: str) -> None:
        await self._change("schedule", name, lambda tx: schedules.pause_schedule(tx, name))

    async def resume_schedule(self, name: str, next_tick: int | None) -> None:
        await self._change("schedule", name, lambda tx: schedules.resume_schedule(tx, name, next_tick))

    async def begin_run(self, schedule: str, tick: int) -> None:
        await self._live.submit(lambda tx: schedules.begin_run(tx, schedule, tick), _RELAXED)

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None:
        await self._live.submit(lambda tx: schedules.finish_run(tx, schedule, tick, error))

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        return await self._live.submit(lambda tx: schedules.list_runs(tx, schedule, limit, before_tick), _RELAXED)

    # Key-value

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        return await self._live.submit(lambda tx: kv.kv_get(tx, namespace, key), _RELAXED)

    async def kv_put(self, namespace: str, entry: KeyValue) -> None:
        await self._change("kv", f"{namespace}/{entry.key}", lambda tx: kv.kv_put(tx, namespace, entry))

    async def kv_delete(self, namespace: str, key: str) -> bool:
        return await self._change("kv", f"{namespace}/{key}", lambda tx: kv.kv_delete(tx, namespace, key))

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        return await self._live.submit(lambda tx: kv.kv_list(tx, namespace, prefix, limit, after), _RELAXED)

    # Documents

    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        return await self._change(
            "document", f"{kind}/{name}", lambda tx: documents.put_document(tx, kind, name, body, version)
        )

    async def get_document(self, kind: str, name: str) -> Document | None:
        return await self._live.submit(lambda tx: documents.get_document(tx, kind, name), _RELAXED)

    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        return await self._change(
            "document", f"{kind}/{name}", lambda tx: documents.delete_document(tx, kind, name, version)
        )

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        return await self._live.submit(lambda tx: documents.list_documents(tx, kind, prefix, limit, after), _RELAXED)

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        return await self._live.submit(lambda tx: documents.append_record(tx, trail, body, seal))

    async def _change(self, kind: str, name: str, run: Callable[[Transaction], T]) -> T:
        return await change(self._live, kind, name, run, keeps_trail=self.keeps_trail)

    @property
    def _live(self) -> Writer:
        if self._writer is None:
            raise StoreClosedError
        return self._writer
