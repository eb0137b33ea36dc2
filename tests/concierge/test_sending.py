"""Messages leave the house: by real SMTP and Twilio's HTTP of the sandbox; what becomes of the refused and the late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from concierge.clinic import PostOffice, clinic, post_office
from conveyor_apps.concierge.jobs import EmailJob, SmsJob
from conveyor_apps.concierge.words import Role

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostOffice]:
    with post_office(tmp_path_factory.mktemp("post")) as running:
        yield running


def mail(id: str, recipient: str = "mia@example.com") -> EmailJob:
    return EmailJob(message_id=id, recipient=recipient, subject="Tomorrow", content="At nine.")


async def test_each_message_comes_to_its_own_end(tmp_path: Path, office: PostOffice) -> None:
    office.strike(
        "smtp", {"recipient": "nobody@*", "refuse": 550}, {"recipient": "full@*", "refuse": 451},
        {"recipient": "once@*", "refuse": 451, "times": 1},
    )  # fmt: skip
    async with clinic(tmp_path, office.environment) as house:
        await house.room.producer.enqueue_batch(
            [
                mail("fine"), mail("gone", "nobody@example.com"), mail("full", "full@example.com"),
                mail("twice", "once@example.com"),
                SmsJob(message_id="text", recipient="+491701234567", content="At nine."),
            ]
        )  # fmt: skip
        async with house.working():
            await house.wait_for("fine", "sent")
            await house.wait_for("text", "sent", "delivered")
            gone = await house.wait_for("gone", "bounced")
            full = await house.wait_for("full", "failed")
            twice = await house.wait_for("twice", "sent")
        assert (gone["attempt"], twice["attempt"], full["attempt"]) == (1, 2, 6)
        assert gone["error"].startswith("invalid_address")
        assert (await house.history("twice")) == ["queued", "sending", "retrying", "sending", "sent"]
        assert (await house.app.store.metrics("dlq")).backlog_messages == 1
        dead = await house.app.store.peek("dlq", limit=10)
        assert [each.dead.reason for each in dead if each.dead is not None] == ["smtp: refused with 451"]
        status = (await house.as_(Role.AUDITOR).get("/debug/queue-status")).json()
        assert status["totals"]["failed"] == 2
        assert status["failureRate"] == pytest.approx(0.4)
    taken = sorted(recipient for each in office.accepted() for recipient in each["recipients"])
    assert taken == ["+491701234567", "mia@example.com", "once@example.com"]


async def test_what_goes_later_does_not_go_early(tmp_path: Path, office: PostOffice) -> None:
    async with clinic(tmp_path, office.environment) as house, house.working():
        at = datetime.now(UTC) + timedelta(seconds=0.7)
        await house.room.producer.enqueue_send_later(mail("later"), at)
        sent = await house.wait_for("later", "sent")
        assert datetime.fromisoformat(sent["sentAt"]) >= at.replace(microsecond=at.microsecond // 1000 * 1000)
