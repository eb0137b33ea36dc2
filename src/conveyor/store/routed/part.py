"""One of the stores that a routed store is made of: the same operations, with numbers that no other store has.

A store that cannot be opened at the start is away: what it is asked raises, and it is opened as soon as that works.
Later outages are the store's own business, as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from conveyor.model.clock import Clock
from conveyor.model.errors import StoreAwayError, StoreError
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Draft, Lease, Peeked, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.joining import Joined
from conveyor.store.notices import NoticeStore
from conveyor.store.protocol import Store, Wake
from conveyor.store.records import (
    SWEEP_ROWS_MAX,
    Claimed,
    ClaimRequest,
    Evidence,
    OwnerInfo,
    OwnerRow,
    QueueInfo,
    QueueMetrics,
    Reaped,
    Settled,
    Swept,
)
from conveyor.store.retaining import RetentionStore
from conveyor.store.routed.alarms import PartAlarms
from conveyor.store.routed.beside import PartBeside
from conveyor.store.routed.deliveries import PartDeliveries
from conveyor.store.routed.groups import PartGroups
from conveyor.store.routed.jobs import PartJobs
from conveyor.store.routed.numbers import is_common, mark_of, own, place_in
from conveyor.store.routed.reports import PartReports
from conveyor.store.routed.steps import PartSteps
from conveyor.store.routed.waiting import Subscriber, problem_of, waited
from conveyor.store.routing import place_of
from conveyor.store.undivided import Undivided

T = TypeVar("T")

COME_UP_S: Final = 1.0
"""Between two tries to open a store that is away."""
PATIENCE_S: Final = 3.0
"""How long what concerns all stores waits for one of them."""
_SLOW: Final = f"it did not answer within {PATIENCE_S:g} s"


class Part(PartAlarms, PartDeliveries, PartBeside, Undivided):
    """A `Store` under a name, at the place of that name."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.place = place_of(name)
        self.keeps_others = store.keeps_others
        self._mark = mark_of(self.place)
        self._store = store
        self.jobs = PartJobs(lambda: self._live.jobs, self._mark)
        self.steps = PartSteps(lambda: self._live.steps, self.unmark_owner)
        self.reports = PartReports(lambda: self._live.reports, self.unmark_owner)
        self.groups = PartGroups(lambda: self._live.groups)
        self._problem: StoreError | None = None
        """Why it is away."""
        self._coming_up: asyncio.Task[None] | None = None
        self._hanging: dict[str, asyncio.Task[Any]] = {}
        self._subscribers: list[Subscriber] = []

    # Life

    @property
    def retention(self) -> RetentionStore:
        return self._live.retention

    @property
    def clock(self) -> Clock:
        return self._store.clock

    @property
    def host(self) -> str:
        return self._store.host

    @property
    def problem(self) -> StoreError | None:
        """Why it could not be opened yet."""
        return self._problem

    async def open(self) -> None:
        """What cannot be opened is away, for whatever reason; what takes its time comes up by itself."""
        opening = asyncio.create_task(self._store.open())
        done = await waited(opening, PATIENCE_S)
        self._problem = problem_of(opening) if done else StoreAwayError(self.name, _SLOW)
        if self._problem is None:
            self._listen()
        else:
            self._coming_up = asyncio.create_task(self._come_up(None if done else opening))

    async def _come_up(self, opening: asyncio.Task[None] | None) -> None:
        while self._problem is not None:
            if opening is None:
                await self._store.clock.sleep(COME_UP_S)
                opening = asyncio.create_task(self._store.open())
            await waited(opening)
            self._problem, opening = problem_of(opening), None
        self._listen()

    async def close(self) -> None:
        tasks = [*self._hanging.values(), *([self._coming_up] if self._coming_up is not None else [])]
        self._hanging, self._coming_up, self._problem = {}, None, None
        for subscriber in self._subscribers:
            subscriber.end()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._store.close()

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        subscriber = Subscriber(wake)
        self._subscribers.append(subscriber)
        if self._problem is None:
            self._listen()

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
                subscriber.end()

        return unsubscribe

    def _listen(self) -> None:
        """Only an open store can be listened to."""
        for subscriber in self._subscribers:
            subscriber.listen(self._store)

    async def patiently(self, what: str, question: Callable[[], Awaitable[T]]) -> T:
        """The answer within `PATIENCE_S`, else `StoreAwayError`; what hangs is not asked again before it ends."""
        if what in self._hanging:
            raise StoreAwayError(self.name, "it hangs")
        task = asyncio.ensure_future(question())
        if await waited(task, PATIENCE_S):
            return task.result()
        self._hanging[what] = task
        task.add_done_callback(lambda ended: self._forget(what, ended))
        raise StoreAwayError(self.name, _SLOW)

    def _forget(self, what: str, task: asyncio.Future[Any]) -> None:
        self._hanging.pop(what, None)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    @property
    def _live(self) -> Store:
        if self._problem is not None:
            raise StoreAwayError(self.name, str(self._problem))
        return self._store

    @property
    def notices(self) -> NoticeStore:
        return self._live.notices

    def join(self, tx: object) -> Joined:
        return Unmarked(self._live.join(tx), self)

    # T1 to T8

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return await self._live.append(drafts)

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        own_request = replace(request, owner=self.unmark_owner(request.owner))
        sent, claimed = await self._live.append_and_claim(drafts, own_request)
        return sent, self._marked_claim(claimed)

    async def claim(self, request: ClaimRequest) -> Claimed:
        return self._marked_claim(
            await self._live.claim(replace(request, owner=self.unmark_owner(request.owner)))
        )

    def _marked_claim(self, claimed: Claimed) -> Claimed:
        if not self._mark:
            return claimed
        return replace(claimed, leases=[replace(lease, seq=lease.seq | self._mark) for lease in claimed.leases])

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        own_settlements = self._unmarked(settlements)
        return self._marked(await self._live.settle(self.unmark_owner(owner), own_settlements, ended=ended))

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        return self._marked(await self._live.settle_pulled(self._unmarked(settlements)))

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        own_held = [(own(seq), claim) for seq, claim in held]
        return await self._live.reconcile(self.unmark_owner(owner), queue, own_held, calls=calls)

    def _unmarked(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        return [replace(each, seq=own(each.seq)) for each in settlements] if self._mark else settlements

    def _marked(self, settled: Settled) -> Settled:
        return Settled(self._mark_all(settled.lost), self._mark_all(settled.dead)) if self._mark else settled

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        await self._live.extend(own(seq), claim, lease_ms)

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        found = await self._live.peek(queue, limit=limit, after_seq=own(after_seq))
        return [self._marked_one(each) for each in found]

    def _marked_one(self, found: Peeked) -> Peeked:
        return replace(found, seq=found.seq | self._mark) if self._mark else found

    # Queues and consumers

    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        return await self._live.create_queue(name, settings)

    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        return await self._live.update_queue(name, settings, version=version)

    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        return await self._live.rename_queue(name, new, version=version)

    async def delete_queue(self, name: str) -> None:
        await self._live.delete_queue(name)

    async def get_queue(self, name: str) -> QueueInfo:
        return await self._live.get_queue(name)

    async def list_queues(self) -> list[QueueInfo]:
        return await self._live.list_queues()

    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        return await self._live.declare_consumer(queue, settings)

    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        return await self._live.put_consumer(queue, settings, version=version)

    async def pause(self, queue: str) -> None:
        await self._live.pause(queue)

    async def resume(self, queue: str) -> None:
        await self._live.resume(queue)

    async def purge(self, queue: str) -> int:
        return await self._live.purge(queue)

    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        own_seqs = None if seqs is None else [own(seq) for seq in seqs]
        return await self._live.redrive(queue, seqs=own_seqs, limit=limit)

    async def discard(self, queue: str, seqs: Sequence[int]) -> list[int]:
        back = {own(seq): seq for seq in seqs}
        return [back[seq] for seq in await self._live.discard(queue, list(back))]

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        found = await self._live.find_message(queue, message_id)
        return None if found is None else self._marked_one(found)

    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        known = replace(was, seq=own(was.seq))
        return self._marked_one(
            await self._live.edit_message(known, body=body, content_type=content_type, headers=headers)
        )

    async def metrics(self, queue: str) -> QueueMetrics:
        return await self._live.metrics(queue)

    # Owners

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        number = await self._live.register_owner(info, owner=None if owner is None else self.unmark_owner(owner))
        return self._mark_owner(number)

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        gone = await self._live.renew_owners([self.unmark_owner(owner) for owner in owners])
        return [self._mark_owner(owner) for owner in gone]

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        """Of what is started, the others' share counts as running elsewhere."""
        started = frozenset(own(seq) for seq in evidence.started if self.is_here(seq))
        culprit = evidence.culprit
        reaped = await self._live.reap_owner(
            self.unmark_owner(owner),
            replace(
                evidence,
                started=started,
                elsewhere=evidence.elsewhere + len(evidence.started) - len(started),
                culprit=own(culprit) if culprit is not None and self.is_here(culprit) else None,
            ),
        )
        return Reaped(
            released=self._mark_all(reaped.released),
            suspects=self._mark_all(reaped.suspects),
            failed=self._mark_all(reaped.failed),
            dead=self._mark_all(reaped.dead),
        )

    async def list_owners(self) -> list[OwnerRow]:
        return [replace(row, owner=self._mark_owner(row.owner)) for row in await self._live.list_owners()]

    async def sweep(self) -> Swept:
        return await self._live.sweep()

    def is_here(self, number: int) -> bool:
        """Whether this seq, or this owner, is one of this store."""
        return is_common(number) or place_in(number) == self.place

    def unmark_owner(self, owner: int) -> int:
        """As this store numbers it."""
        return owner if is_common(owner) else own(owner)

    def _mark_owner(self, owner: int) -> int:
        return owner if is_common(owner) else owner | self._mark

    def _mark_all(self, seqs: list[int]) -> list[int]:
        return [seq | self._mark for seq in seqs]


class Unmarked:
    """`Joined`, for leases that bear a part's numbers."""

    def __init__(self, joined: Joined, part: Part) -> None:
        self._joined = joined
        self._part = part

    async def get_settings(self, queue: str) -> QueueSettings:
        return await self._joined.get_settings(queue)

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return await self._joined.append(drafts)

    async def ack(self, owner: int, lease: Lease) -> None:
        await self._joined.ack(self._part.unmark_owner(owner), replace(lease, seq=own(lease.seq)))
