"""A message's way through the house: draft, review, approval, queue, edits, cancels; its history and its trail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from concierge.clinic import Clinic, clinic
from conveyor_apps.concierge.jobs import CleanupJob, EmailJob, ExportJob, Job, SmsJob
from conveyor_apps.concierge.words import Format, Role, Target

pytestmark = pytest.mark.anyio

MAIL = {"channel": "email", "recipient": "mia@example.com", "subject": "Tomorrow", "content": "At nine."}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def post(house: Clinic, role: Role, path: str, body: Any = None, *, status: int = 200) -> Any:
    answer = await house.as_(role).post(path, json={} if body is None else body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_from_draft_over_review_into_the_queue(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        draft = await post(house, Role.ASSISTANT, "/api/messages", MAIL, status=201)
        assert draft["state"] == "draft"
        path = f"/api/messages/{draft['id']}"
        await post(house, Role.ASSISTANT, f"{path}/submit")
        await post(house, Role.CLINICIAN, f"{path}/reject", {"reason": "say which day"})
        edited = await house.as_(Role.ASSISTANT).put(
            path, json={**MAIL, "content": "On Friday at nine.", "version": 1, "then": "review"}
        )
        assert (edited.json()["state"], edited.json()["version"]) == ("review", 2)
        await post(house, Role.ASSISTANT, f"{path}/approve", status=403)
        approved = await post(house, Role.CLINICIAN, f"{path}/approve")
        assert (approved["state"], approved["reviewedBy"]) == ("queued", "clinician")
        assert (await house.app.store.metrics("message-delivery")).backlog_messages == 1
        assert await house.history(draft["id"]) == [
            "draft", "review", "rejected", "edited", "review", "approved", "queued",
        ]  # fmt: skip


async def test_whoever_wrote_it_does_not_approve_it(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        own = await post(house, Role.CLINICIAN, "/api/messages", {**MAIL, "then": "review"}, status=201)
        await post(house, Role.CLINICIAN, f"/api/messages/{own['id']}/approve", status=403)
        assert (await post(house, Role.ADMIN, f"/api/messages/{own['id']}/approve"))["state"] == "queued"


async def test_what_is_scheduled_can_be_edited_and_cancelled_and_does_not_go(tmp_path: Path) -> None:
    async with clinic(tmp_path) as house:
        body = {**MAIL, "sendAt": (datetime.now(UTC) + timedelta(days=40)).isoformat(), "then": "send"}
        later = await post(house, Role.CLINICIAN, "/api/messages", body, status=201)
        assert later["state"] == "queued"
        path = f"/api/messages/{later['id']}"
        edited = await house.as_(Role.CLINICIAN).put(path, json={**body, "sendAt": None, "version": 1})
        assert edited.json()["state"] == "queued"
        stale = await house.as_(Role.CLINICIAN).put(path, json={**body, "version": 1})
        assert stale.status_code == 409
        assert (await post(house, Role.CLINICIAN, f"{path}/cancel"))["state"] == "cancelled"
        async with house.working():
            await house.wait_for((await enqueue_mail(house, "other")), "queued", "sending")
        assert "sending" not in await house.history(later["id"])


async def enqueue_mail(house: Clinic, id: str) -> str:
    job = EmailJob(message_id=id, recipient="mia@example.com", subject="s", content="c")
    return (await house.room.producer.enqueue_email(job)).id


@pytest.mark.parametrize("url", [None, "memory://"], ids=["in the queue's file", "beside it"])
async def test_a_message_and_its_place_in_the_queue_are_one(tmp_path: Path, url: str | None) -> None:
    async with clinic(tmp_path, url=url) as house:
        jobs: list[Job] = [
            EmailJob(message_id="a", recipient="a@example.com", subject="s", content="c"),
            SmsJob(message_id="b", recipient="+491701234567", content="c"),
            ExportJob(export_id="e", filters={}, user_id="auditor", format=Format.CSV),
            CleanupJob(target=Target.TEMP_FILES, older_than="2026-01-01"),
        ]
        await house.room.producer.enqueue_batch(jobs)
        await house.room.producer.enqueue_batch(jobs[:2])  # the same once more is the same
        assert (await house.app.store.metrics("message-delivery")).backlog_messages == 4
        found = await house.room.messages.find("a")
        assert found is not None
        assert found.carrier is not None
        assert await house.room.messages.relay() == 0
