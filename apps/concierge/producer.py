"""Puts jobs into the queue `message-delivery`, for the app's own code and for its endpoints.

    await producer.enqueue_email(EmailJob(message_id="msg-123", recipient=..., subject=..., content=...))
    await producer.enqueue_send_later(job, datetime(2026, 12, 24, 9, tzinfo=UTC))

A message's row and its place in the queue are one transaction, where the queue lies in SQLite.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from conveyor import Outgoing
from conveyor_apps.tables import Database, Transaction

from . import clock
from .audit import SYSTEM, Trail, Who
from .errors import RefusedError
from .exports import check_filters
from .jobs import CleanupJob, EmailJob, ExportJob, Job, MessageJob, SmsJob
from .messages import Messages, Wish
from .outbox import Outbox
from .people import People
from .records import Message

HELD_S = 1
"""Exports and cleanups go as what is neither urgent nor unimportant."""
BATCH_MAX = 1_000


class Producer:
    """The way in for jobs."""

    def __init__(self, database: Database, messages: Messages, people: People, outbox: Outbox, trail: Trail) -> None:
        self._database = database
        self._messages = messages
        self._people = people
        self._outbox = outbox
        self._trail = trail

    async def enqueue_email(self, job: EmailJob, *, who: Who = SYSTEM, once: bool = False) -> Message:
        """Send an e-mail: at once if it is urgent, 1 s later if it is normal, 5 s later else. `once`: at most once, as
        reminders want it. `FieldError`; `RefusedError` with 409 for the id of another message."""
        return (await self._messages.enqueue([Wish(job=job, once=once)], who))[0]

    async def enqueue_sms(self, job: SmsJob, *, who: Who = SYSTEM, once: bool = False) -> Message:
        """As `enqueue_email`."""
        return (await self._messages.enqueue([Wish(job=job, once=once)], who))[0]

    async def enqueue_send_later(
        self, job: MessageJob, at: datetime, *, who: Who = SYSTEM, once: bool = False
    ) -> Message:
        """Send at this moment, never before; a time without a zone is UTC. `FieldError`, `RefusedError`."""
        moment = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return (await self._messages.enqueue([Wish(job=job, once=once, send_at=_ms(moment))], who))[0]

    async def enqueue_export(self, job: ExportJob, *, who: Who = SYSTEM) -> None:
        """Write an export; the same id once more changes nothing. `FieldError`."""
        await self._send_others([job], who)

    async def enqueue_cleanup(self, job: CleanupJob, *, who: Who = SYSTEM, at_ms: int | None = None) -> None:
        """Take away what is older, now or at a moment within a day. `FieldError`."""
        await self._send_others([job], who, held_s=None if at_ms is None else max(0, at_ms - clock.now_ms()) / 1000)

    async def enqueue_batch(self, jobs: Sequence[Job], *, who: Who = SYSTEM) -> list[Message]:
        """Many, of any types; nothing is sent if one of them is not as it should be. `FieldError`, `RefusedError`."""
        if len(jobs) > BATCH_MAX:
            raise RefusedError(f"A batch holds at most {BATCH_MAX:,} jobs.", status=413)
        others = [each for each in jobs if isinstance(each, (ExportJob, CleanupJob))]
        for each in others:
            _check(each)
        wishes = [Wish(job=each) for each in jobs if isinstance(each, (EmailJob, SmsJob))]
        messages = await self._messages.enqueue(wishes, who) if wishes else []
        if others:
            await self._send_others(others, who)
        return messages

    async def enqueue(self, job: Job, at_ms: int | None = None) -> None:
        """Any job, by the system itself."""
        match job:
            case ExportJob():
                await self.enqueue_export(job)
            case CleanupJob():
                await self.enqueue_cleanup(job, at_ms=at_ms)
            case _:
                await self._messages.enqueue([Wish(job=job, send_at=at_ms)], SYSTEM)

    async def notify(self, user: str, subject: str, content: str) -> None:
        """Tell somebody by e-mail; the same words once."""
        address = await self._people.address_of(user)
        if address is None:
            return
        name = hashlib.sha256(f"{user}\0{subject}\0{content}".encode()).hexdigest()[:24]
        job = EmailJob(message_id=f"notice-{name}", recipient=address, subject=subject, content=content)
        await self.enqueue_email(job)

    async def _send_others(
        self, jobs: Sequence[ExportJob | CleanupJob], who: Who, *, held_s: float | None = None
    ) -> None:
        for job in jobs:
            _check(job)
        outgoing = [
            Outgoing(each, delay=HELD_S if held_s is None else min(held_s, 86_400), headers=_headers(each))
            for each in jobs
        ]

        def work(tx: Transaction) -> None:
            for job in jobs:
                if isinstance(job, ExportJob):
                    filters = msgspec.json.encode(job.filters).decode()
                    tx.change("add_export", id=job.export_id, user=job.user_id, filters=filters, format=job.format)
                    self._trail.write(tx, who, "export.create", job.export_id)
                else:
                    self._trail.write(tx, who, "cleanup.run", f"{job.target} before {job.older_than}")
            if self._outbox.joins:
                self._outbox.send_in(tx, outgoing)

        await self._database.write(work)
        if not self._outbox.joins:
            await self._outbox.send(outgoing)


def _check(job: ExportJob | CleanupJob) -> None:
    job.check()
    if isinstance(job, ExportJob):
        check_filters(job.filters)


def _headers(job: ExportJob | CleanupJob) -> dict[str, str] | None:
    return {"export": job.export_id} if isinstance(job, ExportJob) else None


def _ms(moment: datetime) -> int:
    return -int(-moment.timestamp() * 1000 // 1)
