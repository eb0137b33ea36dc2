"""What the memory store keeps: mutable rows in plain dicts, one dict per table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from conveyor.model.ids import MessageId
from conveyor.model.job import JobAttempt, JobRecord
from conveyor.model.message import PULL_MS_MAX, ContentType, DeadLetter, Lease, Peeked
from conveyor.model.rate import Window
from conveyor.model.report import Word
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.step import JobEvent, StepKind, StepRecord
from conveyor.store.admission import Served
from conveyor.store.gates import Candidate, Turn
from conveyor.store.groups import Group, Member
from conveyor.store.notices import Notice
from conveyor.store.records import Delivery, Document, KeyValue, OwnerRow, QueueInfo, RunStatus, ScheduleDraft
from conveyor.store.reports import Said


@dataclass(slots=True, kw_only=True)
class Message:
    """A message that is not final; `owner` is None while it is READY."""

    seq: int
    id: MessageId
    queue: str
    body: bytes
    content_type: ContentType
    headers: bytes | None
    priority: int
    key: str | None
    sent_at: int
    ready_at: int
    first_ready_at: int
    expires_at: int | None
    max_retries: int | None
    cost: int = 1
    claims: int = 0
    releases: int = 0
    claims_before: int = 0
    """In lives before this one; they count among its releases."""
    crashes: int = 0
    crash_suspect: bool = False
    owner: int | None = None
    lease_until: int | None = None
    lease_most: int | None = None
    dead: DeadLetter | None = None
    retries_at_death: int | None = None
    """Of a dead letter: its own `max_retries` in its queue of origin."""

    @property
    def leased(self) -> bool:
        return self.owner is not None

    @property
    def attempts(self) -> int:
        return self.claims - self.releases

    def is_due(self, due: int) -> bool:
        """Whether it waits to be claimed, and was ready by then."""
        return not self.leased and self.ready_at <= due

    def place(self) -> tuple[int, int, int]:
        """Its place in the order of claims."""
        return (-self.priority, self.ready_at, self.seq)

    def lease(self, owner: int, lease_until: int | None, now: int) -> Lease:
        """T2: the next claim."""
        self.claims += 1
        self.owner, self.lease_until = owner, lease_until
        self.lease_most = None if lease_until is None else now + PULL_MS_MAX
        return Lease(
            seq=self.seq,
            claim=self.claims,
            id=self.id,
            queue=self.queue,
            body=self.body,
            content_type=self.content_type,
            sent_at=self.sent_at,
            releases=self.releases,
            key=self.key,
            headers=self.headers,
            crash_suspect=self.crash_suspect,
        )

    def candidate(self) -> Candidate:
        """As a claim judges it."""
        return Candidate(
            *(self.seq, self.priority, self.ready_at, self.claims, self.releases, self.crashes),
            *(self.key, self.expires_at, self.first_ready_at, self.cost),
        )

    def end_lease(self) -> None:
        self.owner = self.lease_until = self.lease_most = None

    def start_anew(self, queue: str, now: int, dead: DeadLetter | None) -> None:
        """T6 and T12: the same message in another queue, as if it had just been sent there. Claims go on, so that no
        lease from before fits it."""
        self.end_lease()
        self.queue, self.dead = queue, dead
        self.ready_at = self.first_ready_at = now
        self.claims_before = self.releases = self.claims
        self.crashes = 0
        self.crash_suspect = False
        self.expires_at = None
        own = self.max_retries
        self.max_retries = self.retries_at_death if dead is None else None
        self.retries_at_death = None if dead is None else own

    def peek(self) -> Peeked:
        return Peeked(
            seq=self.seq,
            id=self.id,
            queue=self.queue,
            body=self.body,
            content_type=self.content_type,
            sent_at=self.sent_at,
            ready_at=self.ready_at,
            attempts=self.attempts,
            leased=self.leased,
            priority=self.priority,
            key=self.key,
            headers=self.headers,
            dead=self.dead,
        )


@dataclass(slots=True, kw_only=True)
class Queue:
    """A queue with its consumer."""

    name: str
    settings: QueueSettings
    version: int
    created_at: int
    modified_at: int
    consumer: ConsumerSettings | None = None
    declared: ConsumerSettings | None = None
    """What the consumer's script said at its last start."""
    paused: bool = False
    throttled_until: int = 0
    first_name: str | None = None
    former: set[str] = field(default_factory=set)

    def info(self) -> QueueInfo:
        return QueueInfo(
            name=self.name,
            settings=self.settings,
            consumer=self.consumer,
            paused=self.paused,
            version=self.version,
            created_at=self.created_at,
            modified_at=self.modified_at,
            first_name=self.first_name,
        )


@dataclass(slots=True, kw_only=True)
class Dedupe:
    """A dedupe key; `seq` is None once its message has left the queue."""

    id: MessageId
    seq: int | None
    until: int

    def is_live(self, now: int) -> bool:
        return self.seq is not None or now < self.until


@dataclass(slots=True, kw_only=True)
class ScheduleEntry:
    """A schedule as it stands."""

    draft: ScheduleDraft
    version: int
    next_tick: int | None
    paused: bool = False


@dataclass(slots=True, kw_only=True)
class RunEntry:
    """One tick, and the message it became, if it became one."""

    status: RunStatus
    trigger: str
    correlation_id: str
    fired_at: int
    queue: str
    message: MessageId
    started_at: int | None = None
    finished_at: int | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class AlarmEntry:
    """An alarm, and the message that rings it."""

    queue: str
    message: MessageId
    due_at: int
    set_at: int
    failed_at: int | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class GroupEntry:
    """A group, its members by place, and who comes after whom."""

    group: Group
    on_complete: bytes | None
    expires_at: int | None
    members: list[MemberEntry] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class MemberEntry:
    """A member, and its message until that is sent."""

    member: Member
    after: set[int]
    """Places of those that have not ended."""
    takes: int | None
    draft: bytes | None


@dataclass(slots=True, kw_only=True)
class Tables:
    """All that the store knows."""

    messages: dict[int, Message] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    dedupes: dict[tuple[str, str], Dedupe] = field(default_factory=dict)
    slots: dict[tuple[str, int], int] = field(default_factory=dict)
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    """By queue and key; the queue's own under `""`."""
    rests: dict[tuple[str, str], int] = field(default_factory=dict)
    lines: dict[tuple[str, int], list[Turn]] = field(default_factory=dict)
    """Fair queues, by queue and priority."""
    ticks: dict[str, Served] = field(default_factory=dict)
    """The last one at which something went, by queue."""
    owners: dict[int, OwnerRow] = field(default_factory=dict)
    schedules: dict[str, ScheduleEntry] = field(default_factory=dict)
    runs: dict[tuple[str, int], RunEntry] = field(default_factory=dict)
    alarms: dict[str, AlarmEntry] = field(default_factory=dict)
    deliveries: dict[MessageId, Delivery] = field(default_factory=dict)
    entries: dict[tuple[str, str], KeyValue] = field(default_factory=dict)
    documents: dict[tuple[str, str], Document] = field(default_factory=dict)
    jobs: dict[MessageId, JobRecord] = field(default_factory=dict)
    attempts: dict[MessageId, list[JobAttempt]] = field(default_factory=dict)
    """Those that did not succeed."""
    steps: dict[MessageId, dict[tuple[StepKind, str], StepRecord]] = field(default_factory=dict)
    events: dict[MessageId, dict[str, JobEvent]] = field(default_factory=dict)
    said: dict[MessageId, Said] = field(default_factory=dict)
    report_lines: dict[MessageId, list[Word]] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    groups: dict[MessageId, GroupEntry] = field(default_factory=dict)
    members: dict[MessageId, MemberEntry] = field(default_factory=dict)
    seqs: Iterator[int] = field(default_factory=lambda: count(1))
    versions: Iterator[int] = field(default_factory=lambda: count(1))
    owner_numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def in_queue(self, name: str) -> list[Message]:
        """Messages of a queue by seq."""
        return sorted((m for m in self.messages.values() if m.queue == name), key=lambda message: message.seq)
