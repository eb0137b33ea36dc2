"""Messages leave the house: by real SMTP and Twilio's HTTP of the sandbox; what becomes of the refused and the late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from concierge.clinic import PostOffice, clinic, post_office
from conveyor_apps.concierge.jobs import EmailJob, SmsJob
from conveyor_apps.concierge.settings import QUEUE
from conveyor_apps.concierge.words import Role, Urgency

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostOffice]:
    with post_office(tmp_path_factory.mktemp("post")) as running:
        yield running


def mail(id: str, recipient: str = "mia@example.com") -> EmailJob:
    return EmailJob(
        message_id=id, recipient=recipient, subject="Tomorrow", content="At nine.", priority=Urgency.HIGH
    )  # fmt: skip


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
                SmsJob(message_id="text", recipient="+491701234567", content="At nine.", priority=Urgency.HIGH),
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


async def test_ten_are_under_way_at_once_and_none_is_anything_to_its_neighbours(
    tmp_path: Path, office: PostOffice
) -> None:
    """Nine that take ten minutes, and beside them, one after another in the tenth place: one that is refused for good,
    one that fails for a while, one that nobody can read, and two that are well."""
    slow = [mail(f"slow{number}", f"slow{number}@example.com") for number in range(9)]
    office.strike(
        "smtp", {"recipient": "slow*", "delay_ms": 600_000}, {"recipient": "gone@*", "refuse": 550},
        {"recipient": "busy@*", "refuse": 451, "times": 1},
    )  # fmt: skip
    async with clinic(tmp_path, {**office.environment, "PROVIDER_TIMEOUT_S": "600"}) as house:
        producer = house.room.producer
        await producer.enqueue_batch([*slow, mail("gone", "gone@example.com"), mail("busy", "busy@example.com")])
        await house.app.queue(QUEUE).send({"type": "fax_send"})
        await producer.enqueue_batch([mail("fine1"), mail("fine2")])
        async with house.working():
            for id, state in (("gone", "bounced"), ("busy", "sent"), ("fine1", "sent"), ("fine2", "sent")):
                await house.wait_for(id, state)
            with anyio.fail_after(60):  # the others' ends are written, though nine of ten go on
                while (await house.app.store.metrics(QUEUE)).backlog_messages > len(slow):
                    await anyio.sleep(0.02)
            states = {each.message_id: (await house.wait_for(each.message_id, "sending"))["state"] for each in slow}
            assert set(states.values()) == {"sending"}
            at_provider = {recipient for each in office.accepted() for recipient in each["recipients"]}
            assert {each.recipient for each in slow} <= at_provider
            dead = await house.app.store.peek("dlq", limit=10)
            assert [str(each.dead.reason)[:21] for each in dead if each.dead is not None] == ["`type` must be one of"]
            status = (await house.as_(Role.AUDITOR).get("/debug/queue-status")).json()
        assert status["totals"]["processing"] == len(slow)
        told = status["configuration"]
        assert (told["maxBatchSize"], told["maxBatchTimeoutMs"], told["maxRetries"]) == (10, 30_000, 5)
        assert (told["deadLetterQueue"], told["maxConcurrency"]) == ("dlq", 10)
        assert told["retryDelaysMs"] == [20, 40, 80, 160, 320]


async def test_what_goes_later_does_not_go_early(tmp_path: Path, office: PostOffice) -> None:
    async with clinic(tmp_path, office.environment) as house, house.working():
        at = datetime.now(UTC) + timedelta(seconds=0.7)
        await house.room.producer.enqueue_send_later(mail("later"), at)
        sent = await house.wait_for("later", "sent")
        assert datetime.fromisoformat(sent["sentAt"]) >= at.replace(microsecond=at.microsecond // 1000 * 1000)
