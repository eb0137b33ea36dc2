"""HTTP for the queue: the document's `/api/enqueue-job` and its three addresses below `/debug`."""

import secrets
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from . import clock
from .answers import answer, read_json
from .entry import Address, address_of
from .errors import FieldError, RefusedError
from .jobs import CleanupJob, EmailJob, ExportJob, Job, SmsJob, read_job
from .people import Person
from .rights import RIGHTS, Right
from .room import Room
from .words import Format, State, Target, Urgency

TEST_ADDRESS = "test@example.com"
TEST_PHONE = "+15005550006"
"""Twilio's own for tests: nobody has it."""
FAILED = (State.FAILED, State.BOUNCED)
WENT = (State.SENT, State.DELIVERED)


def test_jobs(user: str) -> list[Job]:
    """One of each type, for `/debug/enqueue-test` and `concierge queue test`."""
    tail = secrets.token_hex(6)
    return [
        EmailJob(
            message_id=f"test-email-{tail}", recipient=TEST_ADDRESS, subject="Test", content="Test message",
            priority=Urgency.HIGH,
        ),
        SmsJob(message_id=f"test-sms-{tail}", recipient=TEST_PHONE, content="Test message", priority=Urgency.NORMAL),
        ExportJob(export_id=f"test-export-{tail}", filters={}, user_id=user, format=Format.CSV),
        CleanupJob(target=Target.TEMP_FILES, older_than=clock.iso(clock.now_ms() - 365 * 86_400_000)),
    ]  # fmt: skip


def shown_job(job: Job) -> dict[str, str]:
    """What is said of a job that was enqueued."""
    facts = {"type": str(job.__struct_config__.tag)}
    match job:
        case EmailJob() | SmsJob():
            return {**facts, "messageId": job.message_id, "priority": job.priority}
        case ExportJob():
            return {**facts, "exportId": job.export_id}
        case CleanupJob():
            return {**facts, "target": job.target}


def may_enqueue(person: Person, job: Job) -> bool:
    """Exports and cleanups want a right of their own."""
    match job:
        case EmailJob() | SmsJob():
            return Right.SEND in RIGHTS[person.role]
        case ExportJob():
            return Right.EXPORT in RIGHTS[person.role]
        case CleanupJob():
            return Right.CLEAN in RIGHTS[person.role]


class QueueDesk:
    """Answers calls about the queue."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room

    def addresses(self) -> list[Address]:
        """All of them."""
        found = [
            Address("POST", "/api/enqueue-job", None, self.enqueue_job),
            Address("GET", "/debug/queue-status", Right.WATCH, self.status),
            Address("GET", "/metrics", Right.WATCH, self.metrics),
        ]
        for method in ("GET", "POST"):  # the document's are GET
            found.append(Address(method, "/debug/enqueue-test", Right.SEND, self.enqueue_test, changes=True))
            found.append(Address(method, "/debug/enqueue", Right.SEND, self.enqueue_one, changes=True))
        return found

    async def enqueue_job(self, request: Request, person: Person) -> Response:
        """The body is a job of one of the four types; 202."""
        body: dict[str, Any] = await read_json(request, dict[str, Any])
        job = read_job(body)
        known = {"type", *job.__struct_encode_fields__}
        for name in body.keys() - known:  # else a `sendAt` would go unheard, and the mail at once
            raise FieldError(str(name), "is no field of this type of job")
        if not may_enqueue(person, job):
            raise RefusedError(f"As {person.role} you may not enqueue this type of job.", status=403)
        await self._room().producer.enqueue_batch([job], who=person.at(address_of(request)))
        return answer({"success": True, "job": shown_job(job)}, status=202)

    async def enqueue_test(self, request: Request, person: Person) -> Response:
        """One of each type, of those that the caller may enqueue; 202."""
        jobs = [each for each in test_jobs(person.name) if may_enqueue(person, each)]
        await self._room().producer.enqueue_batch(jobs, who=person.at(address_of(request)))
        return answer({"success": True, "jobs": [shown_job(each) for each in jobs]}, status=202)

    async def enqueue_one(self, request: Request, person: Person) -> Response:
        """One e-mail; 202."""
        job = test_jobs(person.name)[0]
        await self._room().producer.enqueue_batch([job], who=person.at(address_of(request)))
        return answer({"success": True, "job": shown_job(job)}, status=202)

    async def status(self, request: Request, person: Person) -> Response:
        """How it goes: totals, failure rate, what happened lately, configuration."""
        return answer(await status_of(self._room()))

    async def metrics(self, request: Request, person: Person) -> Response:
        """What was counted, for Prometheus."""
        room = self._room()
        text = await room.safety.text(room.facts, await room.providers.status())
        return Response(text, media_type="text/plain; version=1.0.0")


async def status_of(room: Room) -> dict[str, Any]:
    """The document's answer."""
    totals, facts = await room.inbox.totals(), await room.facts()
    failed = sum(totals.states.get(each, 0) for each in FAILED)
    over = failed + sum(totals.states.get(each, 0) for each in WENT)
    return {
        "status": "healthy" if not facts["deadLetters"] else "degraded",
        "totals": {
            "total": sum(totals.states.values()), "queued": totals.states.get(State.QUEUED, 0),
            "processing": totals.states.get(State.SENDING, 0), "failed": failed, "states": totals.states,
        },
        "failureRate": round(failed / over, 4) if over else 0.0,
        "lastDay": totals.events,
        "recentActivity": totals.recent,
        "backlog": facts["backlog"],
        "deadLetters": facts["deadLetters"],
        "configuration": facts["configuration"],
        "providers": await room.providers.status(),
        "warnings": facts["warnings"],
    }  # fmt: skip
