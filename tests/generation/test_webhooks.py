"""Events to Next.js: each once by its id, in order for each generation, signed, however long it was down."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from conveyor_apps.generation.nextjs import verify
from generation.stage import stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
async def test_a_receiver_that_was_down_gets_every_event_once_in_order_and_signed(tmp_path: Path, store: str) -> None:
    async with stage(tmp_path, store=store) as film:
        film.nextjs.site.is_up = False
        made = [*await film.create_many(6), await film.create("it #fails", user="bob"), await film.create("#unsafe")]
        await film.run_until_final(made, within=240)
        await film.run(60, step_s=10)
        assert film.nextjs.events == []
        assert film.nextjs.site.calls > len(made), "it was tried again and again"
        film.nextjs.site.is_up = True
        await film.run_until_told(2 * len(made), within=900, step_s=10)
        await film.run(60, step_s=10)
        site = film.nextjs.site
        assert (len(site.events), site.repeated, site.refused) == (2 * len(made), 0, 0)
        for each in made[:6]:
            assert film.nextjs.names_of(each.id) == ["generation.started", "generation.completed"]
        for each in made[6:]:
            assert film.nextjs.names_of(each.id) == ["generation.started", "generation.failed"]
        kept = [row for each in made for row in await film.room.ledger.events(each.id)]
        assert {each.id for each in site.events} == {row.id for row in kept}, "by the ids that they were born with"
        log = await film.made.app.webhooks.deliveries(url=film.room.settings.webhook_url)
        assert {each.state.value for each in log} == {"delivered"}
        assert max(len(each.tries) for each in log) > 2
        status = (await film.room.desk.status()).webhooks
        assert (status.sent, status.pending, status.failed) == (2 * len(made), 0, 0)
        assert status.retried == sum(len(each.tries) - 1 for each in log)
        assert len(film.logged("Webhook sent successfully")) == 2 * len(made)
        lost = film.logged("Failed to send webhook")
        assert len(lost) == status.retried
        assert {(each["level"], each["willRetry"], each["status"]) for each in lost} == {("WARN", True, 503)}


async def test_bodies_are_the_documents(tmp_path: Path) -> None:
    async with stage(tmp_path) as film:
        good, bad = await film.create(user="u1"), await film.create("#refused", user="u2")
        ended, _ = await film.run_until_final([good, bad], within=60)
        assert ended.result is not None
        await film.run_until_told(4)
        log = await film.made.app.webhooks.deliveries(url=film.room.settings.webhook_url)
        bodies = {(body["userId"], body["event"]): body for body in (msgspec.json.decode(each.payload) for each in log)}
        completed = bodies["u1", "generation.completed"]
        assert completed == {
            "event": "generation.completed", "jobId": good.id, "generationId": good.id, "userId": "u1",
            "status": "completed", "timestamp": completed["timestamp"],
            "result": {
                "videoUrl": f"http://127.0.0.1:8787/api/generations/{good.id}/video", "duration": 8,
                "processingTime": ended.result.processing_time,
            },
        }  # fmt: skip
        failed = bodies["u2", "generation.failed"]
        assert failed == {
            "event": "generation.failed", "jobId": bad.id, "generationId": bad.id, "userId": "u2", "status": "failed",
            "error": failed["error"], "code": failed["code"], "timestamp": failed["timestamp"],
        }  # fmt: skip
        assert "guidelines" in failed["error"]


async def test_the_sample_refuses_what_is_not_ours() -> None:
    secret, now = "whsec_" + "QUJD" * 8, 1_700_000_000
    from conveyor.webhooks.signing import sign

    def headers(at: int, signed: str | None = None) -> dict[str, str]:
        return {
            "webhook-id": "msg_1", "webhook-timestamp": str(at),
            "webhook-signature": signed or sign([secret], "msg_1", at, b"{}"),
        }  # fmt: skip

    assert verify(secret, headers(now), b"{}", now_s=now)
    assert verify(secret, headers(now, "v1,QUJD " + sign([secret], "msg_1", now, b"{}")), b"{}", now_s=now)
    assert not verify(secret, headers(now), b"{} ", now_s=now)
    assert not verify(secret, headers(now, "v1,QUJD"), b"{}", now_s=now)
    assert not verify(secret, headers(now - 301), b"{}", now_s=now)
    assert not verify(secret, {}, b"{}", now_s=now)
