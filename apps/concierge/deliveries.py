"""The messages as their carrier sees them: an attempt begins, and how it ends; receipts later.

The carrier's word is taken only while the row still names it: whoever comes with an older version, as a copy, or after
the end, is told to let go. What goes at most once ends here where nobody knows whether it went.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from conveyor_apps.tables import Database, Transaction

from .audit import Trail, Who
from .errors import PermanentError, Reason, TemporaryError, UnknownError
from .jobs import MessageJob, SmsJob
from .moving import move, note
from .providers import Parcel, Receipt, Taken
from .records import Message, find_message
from .suppressions import Cause, cause_of, suppress, suppressed
from .words import Channel, State

WORKER: Final = "worker"
AGAIN_MAX: Final = 3
"""How often a message goes once more after its recipient's carrier could not deliver it."""
UNKNOWN: Final = "nobody knows whether it went, and it may go at most once"
SUPPRESSED: Final = "nothing is sent to this address until somebody lifts its suppression"
BOUNCING: Final = frozenset({Reason.INVALID, Reason.BLOCKED, Reason.UNSUBSCRIBED})


class Stop(Enum):
    """Why there is nothing to send."""

    OVER = "over"
    """It has gone, or is not to go."""
    SUPPRESSED = "suppressed"
    """Its recipient takes nothing more from us; that was the end of it."""


@dataclass(frozen=True, slots=True)
class Later:
    """It came too early."""

    wait_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One delivery of the queue's message."""

    id: str
    attempt: int
    """From 1."""
    version: int | None
    """Of the text that it carries; None: whoever sent it knew of no versions."""
    is_last: bool
    """After this attempt there is no other."""


class Deliveries:
    """What workers tell of messages."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    async def begin(self, job: MessageJob, carrier: Carrier) -> Parcel | Later | Stop:
        """The attempt begins: from now on the message is `sending`."""
        return await self._database.write(lambda tx: _begin(tx, job, carrier))

    async def taken(self, message: str, taken: Taken, carrier: Carrier) -> None:
        """A provider has it."""

        def work(tx: Transaction) -> None:
            found = _held(tx, message, carrier)
            if found is None:
                return
            tx.change("set_taken", id=message, provider=taken.provider, reference=taken.reference)
            found = move(tx, found, State.SENT, WORKER, detail=taken.provider)
            kept = tx.rows("kept_receipt", provider=taken.provider, reference=taken.reference)
            for state, detail, again_after_s in kept:
                receipt = Receipt(
                    provider=taken.provider, reference=taken.reference, state=State(state), detail=detail,
                    again_after_s=again_after_s,
                )  # fmt: skip
                _settle(tx, found, receipt)

        await self._database.write(work)

    async def waits(self, message: str, error: TemporaryError, carrier: Carrier) -> None:
        """Nobody could be asked: it waits, and this was no attempt."""

        def work(tx: Transaction) -> None:
            found = _held(tx, message, carrier)
            if found is not None:
                move(tx, found, State.QUEUED, WORKER, error=str(error), event="waiting")

        await self._database.write(work)

    async def refused(self, message: str, error: PermanentError, carrier: Carrier) -> None:
        """It will never arrive; if the address is to blame, nothing else is sent there."""
        state = State.BOUNCED if error.reason in BOUNCING else State.FAILED

        def work(tx: Transaction) -> None:
            found = _held(tx, message, carrier)
            if found is None:
                return
            move(tx, found, state, WORKER, error=f"{error.reason}: {error}")
            if error.is_lasting:
                suppress(tx, self._trail, Who(WORKER), found, cause_of(error.reason))

        await self._database.write(work)

    async def failed(self, message: str, error: Exception, carrier: Carrier) -> bool:
        """The attempt failed; whether there is to be another."""
        if isinstance(error, UnknownError):
            found = await self._database.read(lambda tx: find_message(tx, message))
            if found is not None and found.once:
                await self._end(message, State.FAILED, f"{UNKNOWN}: {error}", carrier)
                return False
        text = str(error) if isinstance(error, (TemporaryError, UnknownError)) else type(error).__name__
        if carrier.is_last:
            await self._end(message, State.FAILED, f"given up after {carrier.attempt} attempts: {text}", carrier)
            return True  # so that it is dead-lettered

        def work(tx: Transaction) -> None:
            found = _held(tx, message, carrier)
            if found is not None:
                move(tx, found, State.QUEUED, WORKER, error=text, event="retrying")

        await self._database.write(work)
        return True

    async def dead(self, message: str, carrier: str, reason: str) -> None:
        """Its carrier was dead-lettered, and may have died without a word; one with older words means nothing."""

        def work(tx: Transaction) -> None:
            found = find_message(tx, message)
            if found is not None and found.carrier == carrier and found.state in (State.QUEUED, State.SENDING):
                move(tx, found, State.FAILED, WORKER, error=f"given up: {reason}")

        await self._database.write(work)

    async def receive(self, receipt: Receipt) -> str | None:
        """What a provider told later; the message's id, or None while none has this reference: then it is kept until
        one has. The same may come twice, and late."""

        def work(tx: Transaction) -> str | None:
            values: dict[str, str | float | None] = {"provider": receipt.provider, "reference": receipt.reference}
            rows = tx.rows("message_of_receipt", **values)
            found = find_message(tx, rows[0][0]) if rows else None
            self._heed(tx, found or find_message(tx, receipt.message_id), receipt)
            if found is None:
                tx.change("forget_receipts")
                values |= {"state": receipt.state, "detail": receipt.detail, "again_after_s": receipt.again_after_s}
                tx.change("keep_receipt", **values)
                return None
            _settle(tx, found, receipt)
            return found.id

        return await self._database.write(work)

    def _heed(self, tx: Transaction, message: Message | None, receipt: Receipt) -> None:
        """A recipient who complained, or is not there, is sent nothing else: also if the message itself was over."""
        if message is not None and (receipt.is_complaint or receipt.is_lasting):
            cause = Cause.COMPLAINED if receipt.is_complaint else Cause.BOUNCED
            suppress(tx, self._trail, Who(receipt.provider), message, cause)

    async def _end(self, message: str, state: State, error: str, carrier: Carrier) -> None:
        def work(tx: Transaction) -> None:
            found = _held(tx, message, carrier)
            if found is not None:
                move(tx, found, state, WORKER, error=error)

        await self._database.write(work)


def _begin(tx: Transaction, job: MessageJob, carrier: Carrier) -> Parcel | Later | Stop:
    found = find_message(tx, job.message_id) or _adopt(tx, job)
    if found.state not in (State.QUEUED, State.SENDING):
        return Stop.OVER
    if carrier.version not in (None, found.version) or found.carrier not in (None, carrier.id):
        return Stop.OVER
    if found.send_at is not None and found.send_at > tx.now_ms:
        return Later(found.send_at - tx.now_ms)
    if found.carrier is None:
        tx.change("set_carrier", id=found.id, carrier=carrier.id)
    cause = suppressed(tx, found) if found.state is State.QUEUED else None  # what had begun goes on
    if cause is not None:
        move(tx, found, State.FAILED, WORKER, attempt=carrier.attempt, error=f"{cause}: {SUPPRESSED}")
        return Stop.SUPPRESSED
    if found.state is State.QUEUED:
        found = move(tx, found, State.SENDING, WORKER, attempt=carrier.attempt)
    else:  # an attempt began, and its worker died or was stopped; how far it came, the providers' marks tell
        tx.change("set_state", id=found.id, state=State.SENDING, attempt=carrier.attempt, error=None, ended_at=None)
        note(tx, found.id, "resumed", WORKER, attempt=carrier.attempt)
    return Parcel(
        message_id=found.id, channel=found.channel, recipient=found.recipient, subject=found.subject,
        content=found.content, key=f"{found.id}.{found.version}", once=found.once,
    )  # fmt: skip


def _settle(tx: Transaction, found: Message, receipt: Receipt) -> None:
    """What a receipt means to its message: the first one is the end of it, unless the carrier of its recipient may take
    it later. Then it goes once more, as another version: what has the old one's key was taken."""
    if found.state is State.SENT and _may_go_again(tx, found, receipt):
        tx.change("send_again", id=found.id, send_at=tx.now_ms + round((receipt.again_after_s or 0) * 1000))
        move(tx, found, State.QUEUED, receipt.provider, error=receipt.detail, event="sent_again")
    elif found.state is State.SENT:
        error = None if receipt.state is State.DELIVERED else receipt.detail or receipt.state
        move(tx, found, receipt.state, receipt.provider, error=error, detail=receipt.detail)
    elif found.state is not receipt.state:
        note(tx, found.id, "late_receipt", receipt.provider, attempt=found.attempt, detail=receipt.state)


def _may_go_again(tx: Transaction, found: Message, receipt: Receipt) -> bool:
    if receipt.state is not State.FAILED or receipt.again_after_s is None or found.once:
        return False
    return bool(tx.rows("times_again", id=found.id)[0][0] < AGAIN_MAX)


def _held(tx: Transaction, message: str, carrier: Carrier) -> Message | None:
    """The message, if this attempt of this carrier is the one that is on."""
    found = find_message(tx, message)
    if found is None or found.state is not State.SENDING:
        return None
    return found if (found.carrier, found.attempt) == (carrier.id, carrier.attempt) else None


def _adopt(tx: Transaction, job: MessageJob) -> Message:
    """Somebody has put it into the queue past concierge."""
    channel = Channel.SMS if isinstance(job, SmsJob) else Channel.EMAIL
    tx.change(
        "add_message", id=job.message_id, channel=channel, recipient=job.recipient,
        subject=getattr(job, "subject", ""), content=job.content, priority=job.priority, once=0, state=State.QUEUED,
        send_at=None, created_by=WORKER,
    )  # fmt: skip
    note(tx, job.message_id, State.QUEUED, WORKER, attempt=0, detail="found in the queue")
    found = find_message(tx, job.message_id)
    assert found is not None
    return found
