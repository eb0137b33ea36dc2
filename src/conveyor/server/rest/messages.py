"""Messages: sent, looked at, pulled and settled over HTTP."""

from __future__ import annotations

import random
from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta, field

from conveyor.model.errors import ConflictError, LeaseLostError
from conveyor.model.ids import IdSource, show_id
from conveyor.model.message import (
    COST_MAX,
    DELAY_MS_MAX,
    KEY_CHARS_MAX,
    PEEK_MESSAGES_MAX,
    PRIORITY_MAX,
    PULL_MESSAGES_MAX,
    PULL_MS_MAX,
    ContentType,
    Lease,
)
from conveyor.model.refusals import InvalidRequestError
from conveyor.model.settings import RETENTION_MS_MAX, ConsumerSettings, ConsumerType, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.queue.producer import Outgoing, Queue, SentMessage
from conveyor.queue.sealing import Sealer
from conveyor.server.endpoint import Answer, Call
from conveyor.server.leases import Stamps
from conveyor.server.rest.bodies import MessageShown, read_body, read_headers, show_body, show_headers, show_message
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Cursor, Moment, Page, Told, moment
from conveyor.server.rights import Right
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, ClaimRequest

SEND_BYTES_MAX: Final = 2_000_000
"""A body of 128,000 bytes may be six times as long where each of its signs is escaped."""
BATCH_BYTES_MAX: Final = 4_000_000
VERDICTS_MAX: Final = 1_000
HANDLES_MAX: Final = 1_000

Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)]
LeaseId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
DelayMs: TypeAlias = Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)]
LeaseMs: TypeAlias = Annotated[int, Meta(ge=0, le=PULL_MS_MAX)]
Reason: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
ErrorText: TypeAlias = Annotated[str, Meta(max_length=2_000)]


class NewMessage(Asked, frozen=True, kw_only=True):
    """A message to be sent; what is left out is as the queue says."""

    body: Any
    """Of content type `json` any JSON, of `text` a string, of `bytes` a string of base64."""
    content_type: ContentType = ContentType.JSON
    delay_ms: DelayMs | None = None
    priority: Annotated[int, Meta(ge=0, le=PRIORITY_MAX)] | None = None
    key: Key | None = None
    dedupe: Key | None = None
    """A live one returns the first message instead of adding one."""
    headers: dict[str, Any] | None = None
    expires_in_ms: Annotated[int, Meta(ge=1, le=RETENTION_MS_MAX)] | None = None
    cost: Annotated[int, Meta(ge=1, le=COST_MAX)] | None = None


class NewBatch(Asked, frozen=True, kw_only=True):
    """Messages to be sent, all or none."""

    messages: Annotated[list[NewMessage], Meta(min_length=1, max_length=10_000)]


class MessageSent(Told, frozen=True, kw_only=True):
    """A message that is safely in the store."""

    id: str
    deduped: bool
    """It was there already, under this id: nothing was added."""


class BatchSent(Told, frozen=True, kw_only=True):
    """Messages that are safely in the store, in the order in which they were given."""

    messages: list[MessageSent]


class MessagesAsked(Asked, frozen=True, kw_only=True):
    """Which part of a queue."""

    limit: Annotated[int, Meta(ge=1, le=PEEK_MESSAGES_MAX)] = PEEK_MESSAGES_MAX
    cursor: Cursor | None = None


class PullAsked(Asked, frozen=True, kw_only=True):
    """How many messages are wanted, and for how long."""

    max_messages: Annotated[int, Meta(ge=1, le=PULL_MESSAGES_MAX)] = 10
    lease_ms: LeaseMs | None = None
    """None: the consumer's `visibility_timeout_ms`."""


class MessagePulled(Told, frozen=True, kw_only=True):
    """A message that is yours until its lease ends."""

    lease_id: str
    id: str
    body: Any
    content_type: ContentType
    attempts: int
    sent_at: Moment
    key: str | None
    headers: dict[str, Any] | None


class MessagesPulled(Told, frozen=True, kw_only=True):
    """Messages, highest priority first; none if none is ready, or the queue is paused."""

    messages: list[MessagePulled]
    lease_ms: int


class Retried(Asked, frozen=True, kw_only=True):
    """An attempt that failed."""

    lease_id: LeaseId
    delay_ms: DelayMs | None = None
    """None: the consumer's `retry_delay`."""
    error: ErrorText | None = None


class Rejected(Asked, frozen=True, kw_only=True):
    """A message that will never work."""

    lease_id: LeaseId
    reason: Reason = "rejected"
    error: ErrorText | None = None


class Verdicts(Asked, frozen=True, kw_only=True):
    """What became of pulled messages; the first word on each counts."""

    acks: Annotated[list[LeaseId], Meta(max_length=VERDICTS_MAX)] = field(default_factory=list)
    retries: Annotated[list[Retried], Meta(max_length=VERDICTS_MAX)] = field(default_factory=list)
    rejects: Annotated[list[Rejected], Meta(max_length=VERDICTS_MAX)] = field(default_factory=list)


class SettledShown(Told, frozen=True, kw_only=True):
    """What was written of it."""

    acked: int
    retried: int
    rejected: int
    lost: list[str]
    """Lease ids that are not current any more: nothing was done. A late ack counts."""
    unknown: list[str]
    """Lease ids that this token was never given for this queue."""


class ExtendAsked(Asked, frozen=True, kw_only=True):
    """A lease that is to last longer."""

    lease_id: LeaseId
    lease_ms: LeaseMs
    """From now on; no lease lasts longer than 12 hours in all."""


class MessageRoom:
    """The endpoints, with what they remember between calls. `chance` spreads retries."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._stamps = Stamps()
        self._ids: IdSource | None = None
        self._handles: dict[str, Queue] = {}

    async def send_message(self, call: Call) -> Answer:
        """Send a message; it is safely in the store when this answers. With an `Idempotency-Key`, which is its dedupe
        key, it may be sent again when the answer was lost."""
        name = _queue(call, Right.SEND)
        asked = call.decode(NewMessage)
        handle = self._handle(call.store, call.sealer, name)
        [sent] = await handle.send_batch([_outgoing(asked, asked.dedupe or call.header("idempotency-key"))])
        return Answer.json(_sent(sent), 201)

    async def send_batch(self, call: Call) -> Answer:
        """Send several messages, all or none. An `Idempotency-Key` gives each one that has none a dedupe key."""
        name = _queue(call, Right.SEND)
        asked = call.decode(NewBatch)
        key = call.header("idempotency-key")
        bodies = [
            _outgoing(each, each.dedupe or (f"{key}:{number}" if key else None))
            for number, each in enumerate(asked.messages)
        ]
        sent = await self._handle(call.store, call.sealer, name).send_batch(bodies)
        return Answer.json(BatchSent(messages=[_sent(each) for each in sent]), 201)

    async def list_messages(self, call: Call) -> Answer:
        """Messages in the order in which they were sent, whatever their state, without taking them."""
        name = _queue(call, Right.READ)
        asked = read_query(call, MessagesAsked)
        of = f"messages of {name}"
        after = read_cursor(of, asked.cursor, int) or 0
        found = await call.store.peek(name, limit=asked.limit + 1, after_seq=after)
        page = cut_page(of, found, asked.limit, lambda message: message.seq)
        now = call.store.clock.now_ms()
        return Answer.json(Page(items=[show_message(each, now) for each in page.items], next_cursor=page.next_cursor))

    async def pull_messages(self, call: Call) -> Answer:
        """Lease messages of a queue whose consumer is of type `http_pull`; never waits for any."""
        name = _queue(call, Right.CONSUME)
        asked = call.decode(PullAsked) if call.body else PullAsked()
        consumer = await _pull_consumer(call.store, name)
        lease_ms = consumer.visibility_timeout_ms if asked.lease_ms is None else asked.lease_ms
        request = ClaimRequest(queue=name, owner=PULL_OWNER, limit=asked.max_messages, lease_ms=lease_ms)
        claimed = await call.store.claim(request)
        stamp = await self._stamps.of(call.store, name, call.caller.token_id)
        pulled = [_pulled(lease, stamp.lease(lease.seq, lease.claim)) for lease in claimed.leases]
        return Answer.json(MessagesPulled(messages=pulled, lease_ms=lease_ms))

    async def settle_messages(self, call: Call) -> Answer:
        """Say what became of pulled messages: done, to be tried again, or to be dead-lettered now."""
        name = _queue(call, Right.CONSUME)
        asked = call.decode(Verdicts)
        consumer = await _pull_consumer(call.store, name)
        stamp = await self._stamps.of(call.store, name, call.caller.token_id)
        unknown: list[str] = []
        settlements: dict[int, Settlement] = {}
        lease_ids: dict[int, str] = {}
        for lease_id, verdict in _verdicts(asked):
            place = stamp.read_lease(lease_id)
            if place is None:
                unknown.append(lease_id)
            elif place[0] not in settlements:
                settlements[place[0]] = self._settlement(*place, verdict, consumer)
                lease_ids[place[0]] = lease_id
        lost = (await call.store.settle_pulled(list(settlements.values()))).lost if settlements else []
        done = [each.action for seq, each in settlements.items() if seq not in lost]
        shown = SettledShown(
            acked=done.count(Action.ACK),
            retried=done.count(Action.RETRY),
            rejected=done.count(Action.REJECT),
            lost=[lease_ids[seq] for seq in lost],
            unknown=unknown,
        )
        return Answer.json(shown)

    async def extend_lease(self, call: Call) -> Answer:
        """Let a lease last longer."""
        name = _queue(call, Right.CONSUME)
        asked = call.decode(ExtendAsked)
        await call.store.get_queue(name)
        place = (await self._stamps.of(call.store, name, call.caller.token_id)).read_lease(asked.lease_id)
        if place is None:
            raise LeaseLostError(asked.lease_id)
        await call.store.extend(*place, asked.lease_ms)
        return Answer(204)

    def _settlement(
        self, seq: int, claim: int, verdict: Retried | Rejected | None, consumer: ConsumerSettings
    ) -> Settlement:
        match verdict:
            case None:
                return Settlement(seq, claim)
            case Rejected():
                return Settlement(seq, claim, Action.REJECT, reason=verdict.reason, error=verdict.error)
            case _:
                delay_ms = verdict.delay_ms
                if delay_ms is None:
                    delay_ms = consumer.retry_delay.delay_ms(claim, self._chance.random())
                return Settlement(seq, claim, Action.RETRY, delay_ms, error=verdict.error)

    def _handle(self, store: Store, sealer: Sealer, name: str) -> Queue:
        """Kept, since it remembers the queue's limits for a while."""
        if self._ids is None:
            self._ids = IdSource(store.clock)
        handle = self._handles.get(name)
        if handle is None:

            async def settings_of(name: str) -> QueueSettings:
                return (await store.get_queue(name)).settings

            if len(self._handles) >= HANDLES_MAX:
                self._handles.clear()
            handle = self._handles[name] = Queue(store, self._ids, settings_of, name, sealer=sealer)
        return handle

    def operations(self) -> tuple[Operation, ...]:
        """All of them."""
        messages = "/queues/{queue}/messages"
        return (
            Operation(
                method="POST", path=messages, right=Right.SEND, handle=self.send_message, takes=NewMessage,
                gives=MessageSent, status=201, body_max=SEND_BYTES_MAX, headers=("Idempotency-Key",),
            ),
            Operation(
                method="POST", path=f"{messages}/batch", right=Right.SEND, handle=self.send_batch, takes=NewBatch,
                gives=BatchSent, status=201, body_max=BATCH_BYTES_MAX, headers=("Idempotency-Key",),
            ),
            Operation(
                method="GET", path=messages, right=Right.READ, handle=self.list_messages, query=MessagesAsked,
                action="message.peek", gives=Page[MessageShown],
            ),
            Operation(
                method="POST", path=f"{messages}/pull", right=Right.CONSUME, handle=self.pull_messages,
                takes=PullAsked, may_be_empty=True, gives=MessagesPulled,
            ),
            Operation(
                method="POST", path=f"{messages}/settle", right=Right.CONSUME, handle=self.settle_messages,
                takes=Verdicts, gives=SettledShown, body_max=1_000_000,
            ),
            Operation(
                method="POST", path=f"{messages}/extend", right=Right.CONSUME, handle=self.extend_lease,
                takes=ExtendAsked,
            ),
        )  # fmt: skip


def _queue(call: Call, right: Right) -> str:
    name = call.path["queue"]
    call.require(right, name)
    return name


async def _pull_consumer(store: Store, name: str) -> ConsumerSettings:
    consumer = (await store.get_queue(name)).consumer
    if consumer is None or consumer.type is not ConsumerType.HTTP_PULL:
        raise ConflictError(
            f"queue `{name}` is not consumed over HTTP",
            hint=f'PUT /api/v1/queues/{name}/consumer with `{{"type": "http_pull"}}`',
        )
    return consumer


def _verdicts(asked: Verdicts) -> list[tuple[str, Retried | Rejected | None]]:
    if len(asked.acks) + len(asked.retries) + len(asked.rejects) > VERDICTS_MAX:
        raise InvalidRequestError(f"a request settles at most {VERDICTS_MAX:,} messages", status=422)
    return [
        *((lease_id, None) for lease_id in asked.acks),
        *((each.lease_id, each) for each in asked.retries),
        *((each.lease_id, each) for each in asked.rejects),
    ]


def _outgoing(asked: NewMessage, dedupe: str | None) -> Outgoing:
    return Outgoing(
        read_body(asked.body, asked.content_type),
        delay=None if asked.delay_ms is None else asked.delay_ms / 1000,
        priority=asked.priority,
        key=asked.key,
        dedupe=dedupe,
        content_type=asked.content_type.value,
        headers=read_headers(asked.headers),
        expires_in=None if asked.expires_in_ms is None else asked.expires_in_ms / 1000,
        cost=asked.cost,
    )


def _sent(sent: SentMessage) -> MessageSent:
    return MessageSent(id=sent.id, deduped=sent.deduped)


def _pulled(lease: Lease, lease_id: str) -> MessagePulled:
    return MessagePulled(
        lease_id=lease_id,
        id=show_id(lease.id),
        body=show_body(lease.body, lease.content_type),
        content_type=lease.content_type,
        attempts=lease.attempts,
        sent_at=moment(lease.sent_at),
        key=lease.key,
        headers=show_headers(lease.headers),
    )
