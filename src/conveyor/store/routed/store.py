"""The routed store: what concerns one queue goes to the queue's store, what concerns all goes to each of them.

One store that is away stops nothing in the others. What could not be done there is made up for: an owner is registered
when its lease is renewed, a dead one is reaped before the next sweep. A store that refused its renewals is not swept
before all living owners have had the time to come back to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.clock import Clock
from conveyor.model.errors import InvalidMessageError, StoreError
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.message import ContentType, Draft, Peeked, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.notices import NoticeStore
from conveyor.store.protocol import Seal, Store, Wake
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
from conveyor.store.retaining import RetentionStore
from conveyor.store.routed.alarms import RoutedAlarms
from conveyor.store.routed.deliveries import RoutedDeliveries
from conveyor.store.routed.groups import RoutedGroups
from conveyor.store.routed.jobs import RoutedJobs
from conveyor.store.routed.joined import RoutedJoin
from conveyor.store.routed.numbers import place_in
from conveyor.store.routed.owners import Owners
from conveyor.store.routed.part import Part
from conveyor.store.routed.reports import RoutedReports
from conveyor.store.routed.steps import RoutedSteps
from conveyor.store.routing import HOME, Routing

T = TypeVar("T")

_NAMES_KEPT: Final = 4_096


class RoutedStore(RoutedAlarms, RoutedDeliveries):
    """`Store` made of several: `stores` by their names in `routing`."""

    keeps_others: bool = False
    keeps_trail: bool = True

    def __init__(self, routing: Routing, stores: Mapping[str, Store]) -> None:
        self.routing = routing
        self.parts: Final[Mapping[str, Part]] = {name: Part(name, store) for name, store in stores.items()}
        self._home = self.parts[HOME]
        for name, store in stores.items():
            store.keeps_trail = name == HOME
        self._by_place = {part.place: part for part in self.parts.values()}
        self._name_of = lru_cache(_NAMES_KEPT)(routing.store_of)
        jobs = {name: part.jobs for name, part in self.parts.items()}
        self.jobs = RoutedJobs(jobs, lambda queue: self.at(queue).jobs)
        keeping = [part.steps for part in self.parts.values() if not part.keeps_others]
        self.steps = RoutedSteps(keeping, lambda queue: self.at(queue).steps)
        reports = {name: part.reports for name, part in self.parts.items()}
        self.reports = RoutedReports(reports, lambda queue: self.at(queue).reports)
        groups = {name: part.groups for name, part in self.parts.items()}
        self.groups = RoutedGroups(groups, self._name_of)
        self._ids = IdSource(self._home.clock)
        self._owners = Owners(list(self.parts.values()), self._ids)

    @property
    def _alarm_stores(self) -> Mapping[str, Part]:
        return self.parts

    def _alarm_store(self, queue: str) -> Part:
        return self.at(queue)

    @property
    def _delivery_stores(self) -> Mapping[str, Part]:
        return self.parts

    def _delivery_store(self, queue: str) -> Part:
        return self.at(queue)

    @property
    def notices(self) -> NoticeStore:
        return self._home.notices

    # Life

    @property
    def clock(self) -> Clock:
        """The home store's; each queue goes by that of its own store."""
        return self._home.clock

    @property
    def host(self) -> str:
        return self._home.host

    @property
    def retention(self) -> RetentionStore:
        """The home store's; each has policies of its own, which whoever sets them sets in all."""
        return self._home.retention

    async def open(self) -> None:
        """`StoreError` if none of them can be opened."""
        try:
            await asyncio.gather(*(part.open() for part in self.parts.values()))
        except BaseException:  # also cancelled: what is open has nobody else to close it
            await self.close()
            raise
        problems = [part.problem for part in self.parts.values() if part.problem is not None]
        if len(problems) == len(self.parts):
            await self.close()
            raise problems[0]
        self._ids.follow(self._home.clock)

    async def close(self) -> None:
        self._owners.forget()
        await asyncio.gather(*(part.close() for part in self.parts.values()))

    def at(self, queue: str) -> Part:
        return self.parts[self._name_of(queue)]

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        ends = [part.subscribe(wake) for part in self.parts.values()]

        def unsubscribe() -> None:
            for end in ends:
                end()

        return unsubscribe

    def join(self, tx: object) -> RoutedJoin:
        return RoutedJoin(tx, self.at)

    # T1 to T8

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        """`InvalidMessageError` for queues of several stores: no transaction spans them."""
        parts = {self.at(draft.queue) for draft in drafts}
        if len(parts) > 1:
            names = ", ".join(sorted({draft.queue for draft in drafts}))
            problem = f"one batch goes to one store, and these lie in {', '.join(sorted(part.name for part in parts))}"
            raise InvalidMessageError("queues", names, problem, hint="send a batch to each")
        return await parts.pop().append(drafts) if parts else []

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        """All of it in one queue."""
        return await self.at(request.queue).append_and_claim(drafts, request)

    async def claim(self, request: ClaimRequest) -> Claimed:
        return await self.at(request.queue).claim(request)

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        """A transaction in each store that is concerned; workers settle in each store by itself (`at`)."""
        calls: dict[Part, dict[str, int]] = {}
        for queue, count in (ended or {}).items():
            calls.setdefault(self.at(queue), {})[queue] = count
        shares = self._shares(settlements)
        return _sum_settled(
            [
                await part.settle(owner, shares.get(part, []), ended=calls.get(part))
                for part in {**shares, **dict.fromkeys(calls)}
            ]
        )

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        return await self.at(queue).reconcile(owner, queue, held, calls=calls)

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        shares = self._shares(settlements)
        return _sum_settled([await part.settle_pulled(share) for part, share in shares.items()])

    def _shares(self, settlements: Sequence[Settlement]) -> dict[Part, list[Settlement]]:
        shares: dict[Part, list[Settlement]] = {}
        for each in settlements:
            part = self._by_place.get(place_in(each.seq))
            if part is not None:  # one of a store that is no longer in the table has nobody to be told
                shares.setdefault(part, []).append(each)
        return shares

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        await self._by_place.get(place_in(seq), self._home).extend(seq, claim, lease_ms)

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        return await self.at(queue).peek(queue, limit=limit, after_seq=after_seq)

    # Queues and consumers

    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        return await self.at(name).create_queue(name, settings)

    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        return await self.at(name).update_queue(name, settings, version=version)

    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        """`InvalidSettingError` if the new name is routed to another store."""
        self.routing.check_rename(name, new)
        return await self.at(name).rename_queue(name, new, version=version)

    async def delete_queue(self, name: str) -> None:
        await self.at(name).delete_queue(name)

    async def get_queue(self, name: str) -> QueueInfo:
        return await self.at(name).get_queue(name)

    async def list_queues(self) -> list[QueueInfo]:
        """Those that live where the routes say."""
        found = [(part, info) for part, infos in await self._of_all(Part.list_queues) for info in infos]
        return sorted((info for part, info in found if self.at(info.name) is part), key=lambda info: info.name)

    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        """`InvalidSettingError` if its dead letters or alerts lie in another store."""
        self.routing.check_consumer(queue, settings)
        return await self.at(queue).declare_consumer(queue, settings)

    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        if settings is not None:
            self.routing.check_consumer(queue, settings)
        return await self.at(queue).put_consumer(queue, settings, version=version)

    async def pause(self, queue: str) -> None:
        await self.at(queue).pause(queue)

    async def resume(self, queue: str) -> None:
        await self.at(queue).resume(queue)

    async def purge(self, queue: str) -> int:
        return await self.at(queue).purge(queue)

    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        return await self.at(queue).redrive(queue, seqs=seqs, limit=limit)

    async def discard(self, queue: str, seqs: Sequence[int]) -> list[int]:
        return await self.at(queue).discard(queue, seqs)

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        return await self.at(queue).find_message(queue, message_id)

    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        return await self.at(was.queue).edit_message(was, body=body, content_type=content_type, headers=headers)

    async def metrics(self, queue: str) -> QueueMetrics:
        return await self.at(queue).metrics(queue)

    # Owners

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        return await self._owners.register(info, owner)

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        """Those that are gone in any of the stores."""
        return await self._owners.renew(owners)

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        return await self._owners.reap(owner, evidence)

    async def list_owners(self) -> list[OwnerRow]:
        return await self._owners.rows()

    async def sweep(self) -> Swept:
        return await self._owners.sweep()

    # Schedules: in the store of their queue

    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        return await self.at(draft.queue).declare_schedule(draft, next_tick)

    async def list_schedules(self) -> list[Schedule]:
        found = [schedule for _, schedules in await self._of_all(Part.list_schedules) for schedule in schedules]
        return sorted(found, key=lambda schedule: schedule.draft.name)

    async def get_schedule(self, name: str) -> Schedule:
        return (await self._find_schedule(name))[1]

    async def fire(self, firing: Firing) -> Fired:
        return await self.at(firing.message.queue).fire(firing)

    async def pause_schedule(self, name: str) -> None:
        part, _ = await self._find_schedule(name)
        await part.pause_schedule(name)

    async def resume_schedule(self, name: str, next_tick: int | None) -> None:
        part, _ = await self._find_schedule(name)
        await part.resume_schedule(name, next_tick)

    async def begin_run(self, schedule: str, tick: int) -> None:
        part, _ = await self._find_schedule(schedule)
        await part.begin_run(schedule, tick)

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None:
        part, _ = await self._find_schedule(schedule)
        await part.finish_run(schedule, tick, error=error)

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        part, _ = await self._find_schedule(schedule)
        return await part.list_runs(schedule, limit=limit, before_tick=before_tick)

    async def _find_schedule(self, name: str) -> tuple[Part, Schedule]:
        """`ScheduleNotFoundError`; the error of a store that is away, since it may lie there."""
        away: StoreError | None = None
        for part in self.parts.values():
            try:
                return part, await part.get_schedule(name)
            except StoreError as error:
                away = away or error
            except ScheduleNotFoundError:
                continue
        raise away or ScheduleNotFoundError(name)

    # Key-value: at home

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        return await self._home.kv_get(namespace, key)

    async def kv_put(self, namespace: str, entry: KeyValue) -> None:
        await self._home.kv_put(namespace, entry)

    async def kv_delete(self, namespace: str, key: str) -> bool:
        return await self._home.kv_delete(namespace, key)

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        return await self._home.kv_list(namespace, prefix=prefix, limit=limit, after=after)

    # Documents: at home

    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        return await self._home.put_document(kind, name, body, version=version)

    async def get_document(self, kind: str, name: str) -> Document | None:
        return await self._home.get_document(kind, name)

    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        return await self._home.delete_document(kind, name, version=version)

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        return await self._home.list_documents(kind, prefix=prefix, limit=limit, after=after)

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        return await self._home.append_record(trail, body, seal)

    async def _of_all(self, question: Callable[[Part], Awaitable[T]]) -> list[tuple[Part, T]]:
        """The answer of each; what one of them refuses, all do."""
        answers = await asyncio.gather(*(question(part) for part in self.parts.values()))
        return list(zip(self.parts.values(), answers, strict=True))


def _sum_settled(answers: Sequence[Settled]) -> Settled:
    return Settled([seq for each in answers for seq in each.lost], [seq for each in answers for seq in each.dead])
