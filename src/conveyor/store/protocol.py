"""What a database must promise conveyor. `conveyor.testing.conformance` says it in full; spec/message.md says why.

Each method is one transaction, and returns after its COMMIT. Times are milliseconds of the store's own clock. What a
method raises on purpose it raises before it writes anything. A store belongs to the event loop in which it was opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from conveyor.model.clock import Clock
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Draft, Peeked, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.groups import GroupStore
from conveyor.store.joining import Joinable
from conveyor.store.notices import NoticeStore
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
from conveyor.store.reports import ReportStore
from conveyor.store.retaining import RetentionStore
from conveyor.store.steps import StepStore
from conveyor.store.tracking import AlarmStore, DeliveryStore, JobStore

Wake: TypeAlias = Callable[[frozenset[str]], None]
"""Told, on the event loop, the names of queues in which a claim may now find something. A hint: claims also poll."""


class MessageStore(Protocol):
    """The belt: T1 to T8."""

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        """T1, all or none. `QueueNotFoundError`, `QueueFullError`."""
        ...

    async def claim(self, request: ClaimRequest) -> Claimed:
        """T2. `QueueNotFoundError`."""
        ...

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        """T1 and then T2, in one transaction that is as safe as a send: what was sent may come leased. As `append`."""
        ...

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        """T3, T4, T6, T8 for an owner's leases; may be repeated, but for `ended`: so many handler calls per queue give
        their slots back. Whoever does not know whether they did must `reconcile`."""
        ...

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        """As `settle` for leases taken by `PULL_OWNER`, whose tokens the caller has verified; a late ack counts
        (T3')."""
        ...

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        """T7, for a pulled lease. `LeaseLostError`."""
        ...

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        """Messages by seq, whatever their state, without a claim."""
        ...


class QueueStore(Protocol):
    """Queues and consumers: T9 to T12."""

    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        """`QueueExistsError`."""
        ...

    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        """With `version` only if the queue is still of that one. `VersionConflictError`."""
        ...

    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        """All that is its own goes with it, leases that are held included, and what refers to it says the new name:
        consumers, schedules, jobs, groups, dead letters. The old name is free. `version` as for `update_queue`.
        `QueueExistsError`, `QueueNotRenamableError`, `InvalidSettingError`."""
        ...

    async def delete_queue(self, name: str) -> None:
        """Its messages go with it."""
        ...

    async def get_queue(self, name: str) -> QueueInfo:
        """`QueueNotFoundError`."""
        ...

    async def list_queues(self) -> list[QueueInfo]: ...

    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        """What an app does at its start. Makes the queue, its dead letter queue and its alert queue if need be. Adopts
        a consumer of the same script; writes its settings only if this declaration differs from that script's last one.
        `ConsumerConflictError` names both scripts."""
        ...

    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        """What an operator does; None removes the consumer. `version` as for `update_queue`."""
        ...

    async def pause(self, queue: str) -> None: ...

    async def resume(self, queue: str) -> None: ...

    async def purge(self, queue: str) -> int:
        """T9, in constant time: the number of messages that are gone."""
        ...

    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        """T12: dead letters of `queue` (all ready ones, or these) back to the queues they came from; how many went."""
        ...

    async def discard(self, queue: str, seqs: Sequence[int]) -> list[int]:
        """T9 for single messages, leased ones too: they are gone. The seqs that were there. `QueueNotFoundError`."""
        ...

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        """A message of the queue, whatever its state, without a claim."""
        ...

    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        """Another body and other headers for a message that is READY, and all that `was` says of it. As it is now.
        `VersionConflictError`."""
        ...

    async def metrics(self, queue: str) -> QueueMetrics: ...


class OwnerStore(Protocol):
    """Worker processes and their leases: T5."""

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        """A number that was never used before, above 0; its lease lives `OWNER_LEASE_MS`. `owner` is a number of the
        caller's making, for an owner in several stores."""
        ...

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        """Those that are gone, whose leases are therefore lost."""
        ...

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        """T5, and its slots are free. An owner that is gone already has nothing to reap."""
        ...

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        """What an owner knows to hold of a queue, after an answer was lost: leases by (seq, claim), and slots. The
        others are released (T8); how many. No claim of the owner's on this queue may be under way, and no settle that
        gives slots of it back. `QueueNotFoundError`."""
        ...

    async def list_owners(self) -> list[OwnerRow]: ...

    async def sweep(self) -> Swept:
        """Dead owners (LOST), expired pull leases, retention, purged rows, dedupe keys, receipts, kv: at most
        `SWEEP_ROWS_MAX` rows of each."""
        ...


class ScheduleStore(Protocol):
    """C1: schedules and their runs."""

    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        """`next_tick` is used if the schedule is new or declared otherwise than before."""
        ...

    async def list_schedules(self) -> list[Schedule]: ...

    async def get_schedule(self, name: str) -> Schedule:
        """`ScheduleNotFoundError`."""
        ...

    async def fire(self, firing: Firing) -> Fired: ...

    async def pause_schedule(self, name: str) -> None: ...

    async def resume_schedule(self, name: str, next_tick: int | None) -> None: ...

    async def begin_run(self, schedule: str, tick: int) -> None: ...

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None: ...

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        """Newest tick first."""
        ...


class KeyValueStore(Protocol):
    """Named values with an end."""

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        """Never an expired entry."""
        ...

    async def kv_put(self, namespace: str, entry: KeyValue) -> None: ...

    async def kv_delete(self, namespace: str, key: str) -> bool:
        """Whether it was there."""
        ...

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        """By key, in the order of its UTF-8 bytes."""
        ...


Seal: TypeAlias = Callable[[bytes, bytes], bytes]
"""What is kept of a record, given the one before it (empty for the first) and what is to be recorded. It may be called
on another thread, and again if the transaction is."""


class DocumentStore(Protocol):
    """Few, small records of the control plane, by kind and name."""

    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        """Whatever is there is replaced; with `version` only that one is, and 0 says that there must be none.
        `VersionConflictError`, `InvalidKeyError`."""
        ...

    async def get_document(self, kind: str, name: str) -> Document | None: ...

    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        """Whether it was there. `VersionConflictError` if it was of another version."""
        ...

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        """By name, in the order of its UTF-8 bytes."""
        ...

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        """The next record of a trail, as `seal` makes it, and the trail's head, in one transaction. Records are
        documents of the kind `trail`, named by their numbers (`record_name`)."""
        ...


class Store(
    MessageStore,
    QueueStore,
    OwnerStore,
    ScheduleStore,
    AlarmStore,
    DeliveryStore,
    KeyValueStore,
    DocumentStore,
    Joinable,
    Protocol,
):
    """All of it, with a beginning and an end."""

    @property
    def clock(self) -> Clock:
        """The store's own time; the only one that counts."""
        ...

    @property
    def host(self) -> str:
        """This machine and boot, for `OwnerInfo.host`."""
        ...

    @property
    def keeps_others(self) -> bool:
        """Whether its queues are others' too: an app uses them, and neither makes nor judges them."""
        ...

    keeps_trail: bool
    """What is recorded of its changes is recorded here; of several stores, one keeps the trail of all."""

    @property
    def jobs(self) -> JobStore: ...

    @property
    def steps(self) -> StepStore: ...

    @property
    def reports(self) -> ReportStore: ...

    @property
    def notices(self) -> NoticeStore: ...

    @property
    def groups(self) -> GroupStore: ...

    @property
    def retention(self) -> RetentionStore: ...

    def at(self, queue: str) -> Store:
        """The store in which a queue lives: this one, unless it is made of several."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Be told of sends, also of other processes'; returns the end of it."""
        ...
