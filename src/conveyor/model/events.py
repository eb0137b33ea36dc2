"""What happened, as frozen facts. Rooms emit them; observe alone turns them into log lines, metrics and streams.

Nothing is emitted for a message that goes well: events are for what is rare, or once per worker. An `Emit` never
raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened; `name` is how logs, metrics and streams call it."""

    name: ClassVar[str] = "conveyor.event"


Emit: TypeAlias = Callable[[Event], None]


class MessageFailed(Event, frozen=True, kw_only=True):
    """An attempt failed; the message will be tried again, or be dead-lettered if its retries are spent."""

    name: ClassVar[str] = "conveyor.message.failed"
    queue: str
    message_id: str
    attempt: int
    error: str
    delay_ms: int | None = None
    """Before the next attempt."""
    job_id: str | None = None
    """If the message carries a job."""
    job: str | None = None
    """The job's name."""


class MessageDeadLettered(Event, frozen=True, kw_only=True):
    """A message failed for good."""

    name: ClassVar[str] = "conveyor.message.dead_lettered"
    queue: str
    message_id: str
    attempt: int
    reason: str | None
    """None: its retries are spent."""
    error: str | None
    job_id: str | None = None
    """If the message carries a job."""
    job: str | None = None
    """The job's name."""


class VerdictIgnored(Event, frozen=True, kw_only=True):
    """A handler spoke twice of one message; the first word counts."""

    name: ClassVar[str] = "conveyor.message.verdict_ignored"
    queue: str
    message_id: str | None
    """None: a call on the batch."""
    call: str
    """What was ignored: `retry`."""
    after: str
    """What had been said before: `ack_all`."""


class HandlerRaised(Event, frozen=True, kw_only=True):
    """A handler raised after it had spoken of every message of its call: what it said counts, and this is all that is
    kept of the error."""

    name: ClassVar[str] = "conveyor.handler.raised"
    queue: str
    message_ids: tuple[str, ...]
    error: str


class LeaseLost(Event, frozen=True, kw_only=True):
    """Somebody else holds these messages now; what their handlers said was not written."""

    name: ClassVar[str] = "conveyor.lease.lost"
    message_ids: tuple[str, ...]


class CallOverdue(Event, frozen=True, kw_only=True):
    """A handler call runs longer than it may and cannot be stopped: a thread, or a coroutine that ignores its
    cancellation."""

    name: ClassVar[str] = "conveyor.call.overdue"
    queue: str
    message_ids: tuple[str, ...]
    running_s: float
    timeout_s: float
    job: str | None = None
    """The name of the job that runs, if it is one."""


class ClaimFailed(Event, frozen=True, kw_only=True):
    """A claim could not be made; the consumer goes on after `retry_s`."""

    name: ClassVar[str] = "conveyor.claim.failed"
    queue: str
    error: str
    retry_s: float


class LeasesReturned(Event, frozen=True, kw_only=True):
    """The answer to a claim was lost, and these messages with it; they are ready again."""

    name: ClassVar[str] = "conveyor.leases.returned"
    queue: str
    messages: int


class SettleFailed(Event, frozen=True, kw_only=True):
    """Verdicts could not be written; they are kept and written after `retry_s`."""

    name: ClassVar[str] = "conveyor.settle.failed"
    messages: int
    error: str
    retry_s: float


class QueueReloaded(Event, frozen=True, kw_only=True):
    """A consumer took over settings that were changed elsewhere, a pause or a resume."""

    name: ClassVar[str] = "conveyor.queue.reloaded"
    queue: str
    version: int
    is_open: bool
    """Whether its messages are delivered here: it is not paused, and its consumer is this app."""


class ChildDied(Event, frozen=True, kw_only=True):
    """A child process that runs handler calls came to its end."""

    name: ClassVar[str] = "conveyor.child.died"
    pid: int
    detail: str


class WorkerStarted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "conveyor.worker.started"
    owner: int
    queues: tuple[str, ...]
    concurrency: int


class WorkerStopped(Event, frozen=True, kw_only=True):
    """The worker ended in good order; `unsettled` messages are left to whoever reaps its owner."""

    name: ClassVar[str] = "conveyor.worker.stopped"
    owner: int
    unsettled: int


class ScheduleFired(Event, frozen=True, kw_only=True):
    """A tick came, and this is what it came to."""

    name: ClassVar[str] = "conveyor.schedule.fired"
    schedule: str
    tick: int
    outcome: str


class ScheduleFailed(Event, frozen=True, kw_only=True):
    """A scheduled function raised."""

    name: ClassVar[str] = "conveyor.schedule.failed"
    schedule: str
    tick: int
    error: str


class ScheduleDelayed(Event, frozen=True, kw_only=True):
    """The store refused while ticks were due; they are tried again."""

    name: ClassVar[str] = "conveyor.schedule.delayed"
    error: str


class DeclarationDelayed(Event, frozen=True, kw_only=True):
    """One of several stores refused a queue, a consumer or a schedule; it is tried again, and said once."""

    name: ClassVar[str] = "conveyor.declaration.delayed"
    error: str


class QueueStray(Event, frozen=True, kw_only=True):
    """Messages lie in a store that the routes do not name for their queue, so nobody works on them."""

    name: ClassVar[str] = "conveyor.queue.stray"
    queue: str
    store: str
    routed_to: str
    messages: int


class WorkerDelayed(Event, frozen=True, kw_only=True):
    """The store refused while a worker was to be started, or a dead one's messages given back; it is tried again."""

    name: ClassVar[str] = "conveyor.worker.delayed"
    error: str
    retry_s: float


class WorkerDied(Event, frozen=True, kw_only=True):
    """A worker process ended that nobody had asked to."""

    name: ClassVar[str] = "conveyor.worker.died"
    pid: int
    detail: str
    running: int
    """Messages whose handlers had begun."""
    released: int
    suspects: int
    failed: int
    dead: int


class RequestFailed(Event, frozen=True, kw_only=True):
    """A request met an error that nobody had foreseen; the client was told no more than its id."""

    name: ClassVar[str] = "conveyor.request.failed"
    request_id: str
    endpoint: str
    error: str
    """Its kind alone: its words may hold what was sent."""
    where: str


class ConnectionTroubled(Event, frozen=True, kw_only=True):
    """What the HTTP library says of a connection: something that is no HTTP, or an application that broke its rules."""

    name: ClassVar[str] = "conveyor.connection.troubled"
    problem: str
    error: str | None
    """The kind of an exception, if there was one."""


class AccessRefused(Event, frozen=True, kw_only=True):
    """Somebody came without a valid token."""

    name: ClassVar[str] = "conveyor.access.refused"
    address: str


class StoreLost(Event, frozen=True, kw_only=True):
    """The server is away: calls wait for it. Nothing more is said until it is back, or a call has waited for long
    enough."""

    name: ClassVar[str] = "conveyor.store.lost"
    store: str
    error: str


class StoreBack(Event, frozen=True, kw_only=True):
    """The server answers again."""

    name: ClassVar[str] = "conveyor.store.back"
    store: str
    away_s: float


class StoreCrowded(Event, frozen=True, kw_only=True):
    """The server has no connection left for us: we wait for one, and for a minute keep none that we do not use."""

    name: ClassVar[str] = "conveyor.store.crowded"
    store: str
    error: str


class EndpointDisabled(Event, frozen=True, kw_only=True):
    """A webhook's endpoint is called no more, until somebody enables it."""

    name: ClassVar[str] = "conveyor.webhook.endpoint_disabled"
    endpoint: str
    url: str
    reason: str
