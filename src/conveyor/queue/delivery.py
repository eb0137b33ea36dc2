"""What a handler is given: `Message[T]`, or a `Batch[T]` of them. What it says of them is kept here and judged in
`outcome`.

Of several calls the first on a message wins, one on a message beats one on its batch, and only a second `retry`
replaces the delay of the first. Calls that count for nothing are remembered and become events.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, TypeVar, overload

import msgspec

from conveyor.model.duration import Duration
from conveyor.model.errors import InvalidTransactionError, LeaseLostError
from conveyor.model.events import VerdictIgnored
from conveyor.model.message import Lease
from conveyor.model.redrive import read_redrives
from conveyor.model.verdict import Ack, Judged, RateLimited, Reject, Retry, Snooze, TxAck, Verdict
from conveyor.store.joining import Joined

T = TypeVar("T")

ACK: Final = Ack()
TX_ACK: Final = TxAck()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Fence(NamedTuple):
    """For acks inside the user's transaction: whose lease it is, and the store that knows."""

    owner: int
    join: Callable[[object], Joined]


class Message(Generic[T]):
    """One delivery of a message. Returning acknowledges it; an exception is a failed attempt."""

    __slots__ = ("_batch", "_fence", "_headers", "_ignored", "_lease", "body", "lease_lost", "verdict")

    body: T
    lease_lost: bool
    """Somebody else has the message by now: what is left of this call's work will not count."""
    verdict: Ack | Retry | Reject | None
    """What was said of it so far."""

    def __init__(self, lease: Lease, body: T, batch: Batch[T] | None = None, fence: Fence | None = None) -> None:
        self._lease = lease
        self._batch = batch
        self._fence = fence
        self._headers: dict[str, Any] | None = None
        self._ignored: list[VerdictIgnored] | None = None
        self.body = body
        self.lease_lost = False
        self.verdict = None

    @property
    def id(self) -> str:
        """32 hex digits, in the order of sending."""
        return self._lease.id.hex()

    @property
    def idempotency_key(self) -> str:
        """The same at every attempt: hand it to services that know idempotency keys."""
        return self._lease.id.hex()

    @property
    def queue(self) -> str:
        return self._lease.queue

    @property
    def attempts(self) -> int:
        """1 on the first delivery."""
        return self._lease.claim - self._lease.releases

    @property
    def timestamp(self) -> datetime:
        """When it was sent, UTC."""
        return _EPOCH + timedelta(milliseconds=self._lease.sent_at)

    @property
    def key(self) -> str | None:
        return self._lease.key

    @property
    def headers(self) -> dict[str, Any]:
        if self._headers is None:
            raw = self._lease.headers
            self._headers = {} if raw is None else msgspec.json.decode(raw, type=dict[str, Any])
        return self._headers

    @property
    def redrives(self) -> int:
        """How often it was sent back from a dead letter queue; `attempts` begins at 1 each time."""
        return read_redrives(self._lease.headers)

    @overload
    def ack(self) -> None: ...

    @overload
    def ack(self, *, tx: object) -> Coroutine[Any, Any, None]: ...

    def ack(self, *, tx: object = None) -> Coroutine[Any, Any, None] | None:
        """Done, whatever else this call may still raise.

        `await message.ack(tx=connection)`: done if and when your own transaction is committed, tried again if it is
        not. `LeaseLostError` there, so that it rolls back, if somebody else has the message by now.
        """
        if tx is not None:
            return self._ack_in(tx)
        if self.verdict is None and not isinstance(self._batch_verdict, Retry):
            self.verdict = ACK
        elif not isinstance(self.verdict, Ack):
            self._ignore("ack")
        return None

    async def _ack_in(self, tx: object) -> None:
        if not (self.verdict is None or isinstance(self.verdict, TxAck)) or isinstance(self._batch_verdict, Retry):
            self._ignore("ack")
            return
        if self._fence is None:
            raise InvalidTransactionError(tx, "no worker delivered this message, so there is no lease to end")
        try:
            await self._fence.join(tx).ack(self._fence.owner, self._lease)
        except LeaseLostError:
            self.lease_lost = True
            raise
        self.verdict = TX_ACK

    def retry(self, delay: Duration | None = None) -> None:
        """Try again, after `delay` or the consumer's own. A second call replaces the delay, or clears it."""
        if (self.verdict is None or isinstance(self.verdict, Retry)) and not isinstance(self._batch_verdict, Ack):
            self.verdict = Retry(delay)
        else:
            self._ignore("retry")

    def reject(self, reason: str = "rejected") -> None:
        """It will never work: dead-letter it now."""
        if self.verdict is None and self._batch_verdict is None:
            self.verdict = Reject(reason)
        else:
            self._ignore("reject")

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.queue!r}, attempt {self.attempts}>"

    @property
    def _batch_verdict(self) -> Ack | Retry | None:
        return None if self._batch is None else self._batch.verdict

    def _ignore(self, call: str) -> None:
        after = name_of(self.verdict) if self.verdict is not None else f"{name_of(self._batch_verdict)}_all"
        self._ignored = self._ignored or []
        self._ignored.append(VerdictIgnored(queue=self.queue, message_id=self.id, call=call, after=after))


class Batch(Generic[T]):
    """Messages delivered together. Returning acknowledges those of which nothing was said; an exception retries
    them."""

    __slots__ = ("_ignored", "messages", "queue", "verdict")

    messages: Sequence[Message[T]]
    queue: str
    verdict: Ack | Retry | None
    """What was said of the batch so far."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.messages = []
        self.verdict = None
        self._ignored: list[VerdictIgnored] | None = None

    def ack_all(self) -> None:
        """Done, all of which nothing was said by itself."""
        if self.verdict is None:
            self.verdict = ACK
        elif not isinstance(self.verdict, Ack):
            self._ignore("ack_all")

    def retry_all(self, delay: Duration | None = None) -> None:
        """Try all again of which nothing was said by itself, after `delay` or the consumer's own."""
        if self.verdict is None or isinstance(self.verdict, Retry):
            self.verdict = Retry(delay)
        else:
            self._ignore("retry_all")

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message[T]]:
        return iter(self.messages)

    def __repr__(self) -> str:
        return f"<Batch of {len(self.messages)} of {self.queue!r}>"

    def _ignore(self, call: str) -> None:
        after = f"{name_of(self.verdict)}_all"
        self._ignored = self._ignored or []
        self._ignored.append(VerdictIgnored(queue=self.queue, message_id=None, call=call, after=after))


def ignored_calls(batch: Batch[Any] | None, messages: Sequence[Message[Any]]) -> list[VerdictIgnored]:
    """The calls that counted for nothing, to be emitted by whoever made the call, on its own thread."""
    found = [] if batch is None else list(batch._ignored or ())
    for message in messages:
        if message._ignored is not None:
            found += message._ignored
    return found


def name_of(verdict: Verdict | None) -> str:
    """As users write it."""
    match verdict:
        case Ack():
            return "ack"
        case Retry():
            return "retry"
        case Reject():
            return "reject"
        case RateLimited():
            return "rate_limited"
        case Snooze():
            return "snooze"
        case Judged():
            return "judged"
        case None:
            return "nothing"
