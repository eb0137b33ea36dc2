"""What goes into a store and comes out of it, as data. Times are milliseconds of the store's own clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from conveyor.model.duration import DAY_MS
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft, Lease
from conveyor.model.settings import ConsumerSettings, QueueSettings

PULL_OWNER: Final = 0
"""The owner of leases taken over HTTP; each has a deadline of its own."""
OWNER_LEASE_MS: Final = 15_000
SWEEP_ROWS_MAX: Final = 1_000


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """T2. The messages come in the order priority desc, ready_at, seq."""

    queue: str
    owner: int
    limit: int
    """Messages at most."""
    calls: int = 1_000_000
    """Handler calls the owner can start now; counts only where the queue has a `max_concurrency`."""
    batch_size: int = 1
    """Messages per handler call. More than 1: the last, incomplete batch is left alone until it opens."""
    batch_timeout_ms: int = 0
    suspects: bool = False
    """Claim crash suspects instead of the others."""
    lease_ms: int | None = None
    """For `PULL_OWNER`: how long each lease lives."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a claim."""

    leases: list[Lease]
    calls: int = 0
    """Slots of `max_concurrency` that the owner now holds for these leases; given back by `settle(ended=...)`."""
    opens_at: int | None = None
    """When it is worth asking again without being woken: a delay, a batch timeout, a rate or a rest
    ends then."""
    suspects: bool = False
    """Crash suspects are ready."""
    version: int = 0
    """Grows with every change of the queue, its consumer, a pause or a resume."""


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The answer to a settle: what could not be done, and what died."""

    lost: list[int]
    """seqs whose lease was not this owner's any more; nothing was done to them. An ack of what is gone is not lost."""
    dead: list[int]
    """seqs that were dead-lettered, or deleted for want of a dead letter queue."""


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as it operates now."""

    name: str
    settings: QueueSettings
    consumer: ConsumerSettings | None
    paused: bool
    version: int
    created_at: int
    modified_at: int
    first_name: str | None = None
    """What it was made as, if it was renamed since."""


class QueueMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of a queue; kept, never counted."""

    backlog_messages: int
    """Not final: ready, delayed or leased."""
    backlog_bytes: int
    oldest_ready_at: int | None
    leased: int


class OwnerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process: its messages live as long as its owner row."""

    app: str
    """Its name, or where a supervisor loads it from: `shop.main:app`."""
    host: str
    """Machine and boot, so that a pid means something."""
    pid: int
    supervisor_pid: int

    def may_run(self, app: str) -> bool:
        """Whether it may be a worker of the app of this name: a supervisor does not know its app's."""
        return self.app == app or ":" in self.app


class OwnerRow(msgspec.Struct, frozen=True, kw_only=True):
    owner: int
    info: OwnerInfo
    lease_until: int


class Ending(StrEnum):
    """How an owner came to its end, as its supervisor saw it."""

    EXITED = "exited"
    """In good order: what it still holds is released."""
    CRASHED = "crashed"
    """Killed or died: T5's evidence is in `started`."""
    TIMED_OUT = "timed out"
    """Killed by the supervisor because `culprit` would not end; its neighbours are released."""
    LOST = "lost"
    """Nobody saw it: every lease counts as an attempt, none as a crash."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a dead owner's messages."""

    ending: Ending
    started: frozenset[int] = frozenset()
    """seqs whose handler had begun and was not settled."""
    elsewhere: int = 0
    """How many more of its handlers had begun, with messages of other stores."""
    culprit: int | None = None
    detail: str = ""
    """For people, kept as `last_error`: `killed by signal 9`."""


class Reaped(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a dead owner's messages, as seqs."""

    released: list[int]
    suspects: list[int]
    failed: list[int]
    dead: list[int]


HISTORY_ROWS_MAX: Final = 500
"""Of what has ended, of each kind and scope, taken away or dated anew in one sweep."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """Rows a sweep dealt with, by kind."""

    owners: int = 0
    expired_leases: int = 0
    expired_messages: int = 0
    purged_messages: int = 0
    dedupe_keys: int = 0
    receipts: int = 0
    kv_entries: int = 0
    rates: int = 0
    jobs: int = 0
    deliveries: int = 0
    lifted: int = 0
    """Messages that waited long behind others of a higher priority."""
    groups: int = 0
    runs: int = 0
    records: int = 0
    """Of the audit trail."""
    dated_jobs: int = 0
    """Looked at, for policies that say otherwise than their records do."""
    carried: int = 0
    """Messages that users' own transactions sent or acked, brought to where they belong."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field) for field in self.__struct_fields__)

    @property
    def leaves_history(self) -> bool:
        """Whether more may be left of what has ended long ago: it has time, and others go before it."""
        return max(self.jobs, self.deliveries, self.runs, self.records, self.dated_jobs) >= HISTORY_ROWS_MAX


class ScheduleDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as an app declares it. The store does not parse the expression."""

    name: str
    app: str
    queue: str
    """Where its messages go."""
    expression: str
    syntax: str
    timezone: str
    misfire: str
    overlap: str
    jitter_ms: int


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it operates now."""

    draft: ScheduleDraft
    version: int
    """Grows when an app declares it otherwise than before."""
    next_tick: int | None
    paused: bool


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """C1: one tick turned into one message."""

    schedule: str
    version: int
    tick: int
    next_tick: int | None
    """None leaves the schedule's next tick as it is (a manual trigger)."""
    message: Draft
    trigger: str
    """`schedule` or `manual`."""
    correlation_id: str
    missed: bool = False
    """`misfire="none"`: the tick is long past, so it is recorded and its message is not sent."""


class Fired(StrEnum):
    """What a firing came to."""

    SENT = "sent"
    SKIPPED = "skipped"
    """`overlap="skip"` and the previous run's message is not final: recorded, not sent."""
    MISSED = "missed"
    """Recorded, not sent."""
    TAKEN = "taken"
    """Another process fired this tick."""
    STALE = "stale"
    """A newer version of the schedule is declared."""
    PAUSED = "paused"


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSED = "missed"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One tick of a schedule, and what came of it. A run whose message is final without a word from it has failed."""

    schedule: str
    tick: int
    trigger: str
    status: RunStatus
    correlation_id: str
    fired_at: int
    started_at: int | None = None
    finished_at: int | None = None
    error: str | None = None


class AlarmState(StrEnum):
    """How an alarm stands, by the place of its message."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    """Its message is with a worker."""
    RETRYING = "retrying"
    PARKED = "parked"
    """Its message is no longer in its queue: its retries are spent, or somebody purged it. It stays so until it is set
    anew, or its dead letter is sent back."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A1: a durable timer, and the one message that rings it."""

    name: str
    queue: str
    message_id: MessageId
    """The generation: every `set` makes another."""
    due_at: int
    set_at: int
    state: AlarmState
    next_at: int | None
    """When it rings, or is tried again; None while it runs, and where it is parked."""
    attempts: int | None
    """Made so far; None while it runs, and where it is parked."""
    failed_at: int | None = None
    error: str | None = None
    """Of the last failure of this generation."""


def alarm_state(*, is_here: bool, attempts: int | None) -> AlarmState:
    """`is_here`: the message lies in its queue. `attempts`: made so far, None while it is leased."""
    if not is_here:
        return AlarmState.PARKED
    if attempts is None:
        return AlarmState.RUNNING
    return AlarmState.RETRYING if attempts else AlarmState.SCHEDULED


DELIVERY_MS: Final = 30 * DAY_MS
"""How long a delivery is kept after it has ended."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Something that goes to an endpoint of somebody else's, and the message that carries it."""

    id: MessageId
    endpoint: str
    queue: str
    event: str
    state: str
    """`pending`, or how it ended. One that is pending without its message is over as well."""
    message_id: MessageId
    """The fence: sent again, it has another."""
    body: bytes
    """JSON."""
    created_at: int = 0
    modified_at: int = 0
    is_carried: bool = True
    """Its message lies in its queue."""


class KeyValue(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    value: bytes
    metadata: bytes | None = None
    """JSON, or None."""
    expires_at: int | None = None


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    metadata: bytes | None
    expires_at: int | None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the control plane: a token, a namespace, a line of the audit trail."""

    kind: str
    name: str
    body: bytes
    """JSON."""
    version: int
    """1 at first; one more with every change."""
    created_at: int
    modified_at: int


TRAIL_KIND: Final = "trail"
"""Of the document that stands for a trail: its version is the number of records, its body the last of them."""


ANY_QUEUE: Final = "*"
"""Stands for every queue in a wake-up."""
