"""The way in of one queue's consumers: pulls with an end, polls that slow down while nothing comes, and verdicts in
groups. A pull costs an attempt, whatever becomes of it: the API knows no way to give a message back unused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from conveyor.model.clock import Clock
from conveyor.model.errors import (
    ConflictError,
    InvalidSettingError,
    NotFoundError,
    QueueUnavailableError,
)
from conveyor.model.message import PULL_MESSAGES_MAX, PULL_MS_MAX, Lease
from conveyor.model.settings import ConsumerSettings, ConsumerType, QueueSettings
from conveyor.model.verdict import Action, Backoff, Settlement
from conveyor.remote.client import Client
from conveyor.remote.directory import Directory, Known, read_consumer_row, read_info, seconds_of
from conveyor.remote.sending import Outbox
from conveyor.remote.wire import (
    AckedLease,
    ConsumerRow,
    Judged,
    Pulled,
    PushedMessage,
    RetriedLease,
    Verdicts,
    decode_body,
    encode_body,
    message_id,
)
from conveyor.store.records import Claimed, ClaimRequest, QueueInfo, Settled

POLL_S_FIRST: Final = 0.1
POLL_S_MAX: Final = 2.0
"""Between two pulls of a queue that stays empty."""
PAUSED_S: Final = 5.0
"""Between two looks at a queue that delivers nothing for now."""
MARGIN_MS: Final = 30_000
"""A lease lasts so much longer than a handler may run: messages wait for a slot, and verdicts for the network."""

OutboxOf: TypeAlias = Callable[[str], Outbox]
"""The way into a queue by its name."""


class _Held(msgspec.Struct, gc=False):
    """A message that we pulled, and how the API calls our lease of it."""

    lease_id: str
    lease: Lease
    was_tried: bool = False
    """A verdict went out, and its answer was lost."""


class Inbox:
    """Pulls a queue for its consumer in this process."""

    def __init__(self, name: str, client: Client, directory: Directory, clock: Clock, seqs: Iterator[int]) -> None:
        self._name = name
        self._client = client
        self._directory = directory
        self._clock = clock
        self._seqs = seqs
        self._held: dict[int, _Held] = {}
        self._poll_at = 0.0
        self._poll_s = POLL_S_FIRST
        self._declared: ConsumerSettings | None = None
        self._info = QueueInfo(
            name=name, settings=QueueSettings(), consumer=None, paused=False, version=0, created_at=0, modified_at=0
        )
        """As last seen."""

    def owns(self, seq: int) -> bool:
        """Whether a verdict on it is for this queue."""
        return seq in self._held

    def declare(self, settings: ConsumerSettings) -> QueueInfo:
        """How this app consumes the queue."""
        self._declared = settings
        self._info = replace(self._info, consumer=settings)
        return self._info

    async def info(self) -> QueueInfo:
        """The queue as its consumer here operates: what the API keeps for it is the API's to say. An API that is away
        changes nothing of what is known."""
        with contextlib.suppress(QueueUnavailableError):
            self._info = self._seen_as(read_info(self._name, await self._directory.find(self._name, patience_s=0)))
        return self._info

    def _seen_as(self, info: QueueInfo) -> QueueInfo:
        declared, row = self._declared, info.consumer
        if declared is None or row is None or row.type is not ConsumerType.HTTP_PULL:
            return info if declared is None else replace(info, consumer=declared)
        delay = row.retry_delay if declared.retry_delay == Backoff(base_ms=0) else declared.retry_delay
        letters = row.dead_letter_queue
        return replace(
            info,
            consumer=replace(declared, retry_delay=delay, max_retries=row.max_retries, dead_letter_queue=letters),
        )

    async def claim(self, request: ClaimRequest) -> Claimed:
        """T2: at most 100 messages, none of them before the next poll is due."""
        now = self._clock.monotonic()
        if now < self._poll_at:
            version = (await self._directory.find(self._name, patience_s=0)).version
            return Claimed(leases=[], version=version, opens_at=self._moment(self._poll_at))
        known = await self._directory.find(self._name, patience_s=0)
        self._check(known)
        self._forget_old()
        try:
            leases = await self._pull(known, min(request.limit, PULL_MESSAGES_MAX), self._lease_ms(request))
        except ConflictError:  # paused: who looks at the queue next sees it
            self._directory.forget(self._name)
            self._poll_at = now + PAUSED_S
            return Claimed(leases=[], version=known.version, opens_at=self._moment(self._poll_at))
        except NotFoundError as error:
            self._directory.forget(self._name)
            raise self._directory.missing(self._name) from error
        except QueueUnavailableError as error:
            self._poll_at = now + (error.retry_after_s or 0)
            raise
        self._plan(len(leases), min(request.limit, PULL_MESSAGES_MAX))
        return Claimed(leases=leases, version=known.version, opens_at=self._moment(self._poll_at))

    def _check(self, known: Known) -> None:
        if known.is_vague or (known.consumer is not None and known.consumer.type == ConsumerType.HTTP_PULL):
            return
        self._directory.forget(self._name)
        present = "no consumer" if known.consumer is None else f"a consumer of type `{known.consumer.type}`"
        raise InvalidSettingError(
            "consumer",
            self._name,
            f"the queue has {present}, and only `http_pull` can be pulled from here: "
            f"`conveyor queues consumer http add {self._name}` there, or wrangler's verb of the same name",
        )

    def _lease_ms(self, request: ClaimRequest) -> int:
        given = request.lease_ms or self._client.address.lease_ms
        if given is not None or self._declared is None:
            return given or MARGIN_MS
        return min(PULL_MS_MAX, self._declared.timeout_ms + MARGIN_MS)

    async def _pull(self, known: Known, limit: int, lease_ms: int) -> list[Lease]:
        ends_at = self._clock.now_ms() + lease_ms  # before it was asked for: the lease cannot end sooner
        body = {"batch_size": limit, "visibility_timeout_ms": lease_ms}
        pulled: Pulled = await self._client.call(
            "POST", f"{known.path}/messages/pull", Pulled, body=body, patience_s=0
        )
        leases = []
        for message in pulled.messages or ():
            lease = Lease(
                seq=next(self._seqs),
                claim=max(1, int(message.attempts)),
                id=message_id(message.id),
                queue=self._name,
                body=decode_body(message),
                content_type=message.content_type,
                sent_at=int(message.timestamp_ms),
                ends_at=ends_at,
            )
            self._held[lease.seq] = _Held(message.lease_id, lease)
            leases.append(lease)
        return leases

    def _plan(self, came: int, asked: int) -> None:
        """When to pull again: at once after a full answer, later and later while nothing comes."""
        if came >= asked:
            self._poll_at, self._poll_s = 0.0, POLL_S_FIRST
            return
        self._poll_s = POLL_S_FIRST if came else min(self._poll_s * 2, POLL_S_MAX)
        self._poll_at = self._clock.monotonic() + self._poll_s

    def _moment(self, monotonic_s: float) -> int:
        return self._clock.now_ms() + max(0, round((monotonic_s - self._clock.monotonic()) * 1000))

    def _forget_old(self) -> None:
        """Of what nobody said a word while its lease lived and as long again, nobody will."""
        if len(self._held) <= PULL_MESSAGES_MAX:
            return
        now = self._clock.now_ms()
        for seq, held in list(self._held.items()):
            if held.lease.ends_at is not None and now > 2 * held.lease.ends_at - held.lease.sent_at + MARGIN_MS:
                del self._held[seq]

    async def settle(self, settlements: Sequence[Settlement], outbox_of: OutboxOf) -> Settled:
        """T3 to T8, as far as the API knows them: a release is a retry, a rejection a push to the dead letter queue."""
        found = [(each, self._held[each.seq]) for each in settlements if each.seq in self._held]
        if not found:
            return Settled([], [])
        known = await self._directory.find(self._name, patience_s=0)
        acks: list[tuple[int, AckedLease]] = []
        retries: list[tuple[int, RetriedLease]] = []
        dead: list[int] = []
        for each, held in found:
            if each.throttles:
                self._poll_at = max(self._poll_at, self._clock.monotonic() + (each.delay_ms or 0) / 1000)
            is_rejected = each.action is Action.REJECT and await self._bury(held, known.consumer, outbox_of)
            if each.action is Action.ACK or is_rejected:
                acks.append((each.seq, AckedLease(held.lease_id)))
            else:
                retries.append((each.seq, RetriedLease(held.lease_id, seconds_of(each.delay_ms or 0))))
            if is_rejected or (each.action is not Action.ACK and _is_last(held.lease, known.consumer)):
                dead.append(each.seq)
        return Settled(await self._judge(known, acks, retries), dead)

    def lease_id(self, seq: int) -> str:
        """How the API calls a lease that was claimed here."""
        return self._held[seq].lease_id

    async def judge(self, acks: Sequence[str], retries: Sequence[str], delay_s: int | None) -> Judged:
        """Settle leases that were claimed anywhere, by their ids."""
        known = await self._directory.find(self._name)
        body = Verdicts(
            acks=[AckedLease(each) for each in acks], retries=[RetriedLease(each, delay_s) for each in retries]
        )
        judged: Judged = await self._client.call("POST", f"{known.path}/messages/ack", Judged, body=body)
        return judged

    async def _bury(self, held: _Held, consumer: ConsumerRow | None, outbox_of: OutboxOf) -> bool:
        """Whether a rejected message may be acknowledged: it lies in the dead letter queue, or nobody wants it."""
        letters = None if consumer is None else consumer.dead_letter_queue or None
        if letters is None:
            return self._declared is not None and self._declared.dead_letter_queue is None
        lease = held.lease
        message = PushedMessage(encode_body(lease.body, lease.content_type), lease.content_type.value)
        await outbox_of(letters).send([message], len(lease.body))
        return True

    async def _judge(
        self, known: Known, acks: list[tuple[int, AckedLease]], retries: list[tuple[int, RetriedLease]]
    ) -> list[int]:
        """Send the verdicts, a hundred in a request; the seqs of retries that came too late."""
        verdicts: list[tuple[int, AckedLease | RetriedLease]] = [*acks, *retries]
        shares = [verdicts[at : at + PULL_MESSAGES_MAX] for at in range(0, len(verdicts), PULL_MESSAGES_MAX)]
        answers = await asyncio.gather(*(self._judge_share(known, share) for share in shares), return_exceptions=True)
        lost: list[int] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            lost += answer
        return lost

    async def _judge_share(self, known: Known, share: Sequence[tuple[int, AckedLease | RetriedLease]]) -> list[int]:
        body = Verdicts(
            acks=[each for _, each in share if isinstance(each, AckedLease)],
            retries=[each for _, each in share if isinstance(each, RetriedLease)],
        )
        path = f"{known.path}/messages/ack"
        try:
            judged: Judged = await self._client.call("POST", path, Judged, body=body, patience_s=0)
        except QueueUnavailableError:
            for seq, _ in share:
                if seq in self._held:
                    self._held[seq].was_tried = True
            raise
        warned = judged.warnings if isinstance(judged.warnings, dict) else {}
        lost = []
        for seq, each in share:
            held = self._held.pop(seq, None)
            if isinstance(each, RetriedLease) and each.lease_id in warned and held is not None and not held.was_tried:
                lost.append(seq)
        return lost


def _is_last(lease: Lease, consumer: ConsumerRow | None) -> bool:
    """Whether a failed attempt spends the last retry."""
    return consumer is not None and lease.claim > read_consumer_row(consumer).max_retries
