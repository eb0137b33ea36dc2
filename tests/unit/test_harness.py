"""The kit that users test their apps with: nothing runs unless it is told to."""

from __future__ import annotations

import pytest

from conveyor import Batch, Conveyor, CronRun, Message, Retry
from conveyor.model.errors import InvalidSettingError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_drain_handles_what_is_ready_and_what_that_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Conveyor("shop")
    second = app.queue("second")  # given out before the kit is, and yet in memory
    done: list[object] = []

    @app.consumer("first")
    async def handle_first(message: Message[int]) -> None:
        await second.send(message.body * 10)

    @app.consumer("second")
    def handle_second(message: Message[int]) -> None:
        done.append(message.body)

    async with app.testing() as kit:
        await app.queue("first").send_batch([1, 2])
        kit.assert_enqueued("first", count=2)
        kit.assert_enqueued("first", body=2)
        kit.assert_enqueued("second", count=0)
        with pytest.raises(AssertionError, match="(?s)body 3.*holds 2"):
            kit.assert_enqueued("first", body=3)
        await kit.drain()
        kit.assert_enqueued("first", count=0)
    assert done == [10, 20]
    assert app.loop is None


async def test_retries_wait_for_travel() -> None:
    app = Conveyor("shop")
    attempts: list[int] = []

    @app.consumer("jobs", retry_delay="10m", max_retries=2)
    async def handle(message: Message[str]) -> None:
        attempts.append(message.attempts)
        raise Retry

    async with app.testing() as kit:
        await app.queue("jobs").send("x")
        await kit.drain()
        assert attempts == [1]
        await kit.travel("9m")
        await kit.drain()
        assert attempts == [1]
        await kit.travel("1m")
        await kit.drain()
        await kit.travel("1h")
        await kit.drain()
        assert attempts == [1, 2, 3]
        kit.assert_enqueued("jobs-dlq", body="x", count=1)


async def test_travel_runs_schedules_at_their_own_moments() -> None:
    app = Conveyor("shop")
    ticks: list[str] = []

    @app.cron("*/20 * * * *", jitter="1m")
    async def sweep(run: CronRun) -> None:
        ticks.append(f"{run.tick:%H:%M}")
        await app.queue("jobs").send(len(ticks))

    @app.consumer("jobs")
    async def handle(batch: Batch[int]) -> None: ...

    async with app.testing() as kit:
        await kit.travel("1h")
        kit.assert_enqueued("jobs", count=2)
        await kit.travel("2m")
        kit.assert_enqueued("jobs", count=3)
        assert await kit.drain() == 1
    assert ticks == ["12:20", "12:40", "13:00"]


async def test_an_open_app_is_refused() -> None:
    app = Conveyor("shop", url="memory://")
    async with app:
        with pytest.raises(InvalidSettingError, match="is open"):
            async with app.testing():
                pass


async def test_kv_lives_by_the_kit_s_clock() -> None:
    app = Conveyor("shop")
    cache = app.kv("CACHE")
    async with app.testing() as kit:
        await cache.put("a", "1", ttl="1h")
        await kit.travel("59m")
        assert await cache.get("a") == "1"
        await kit.travel("1m")
        assert await cache.get("a") is None


async def test_modes_of_dispatch_go_by_the_kits_clock() -> None:
    app, done = Conveyor("shop"), list[str]()

    @app.consumer("ticking", dispatch="cron")
    async def tick(message: Message[str]) -> None:
        done.append(message.body)

    @app.consumer("ringing", dispatch="alarm")
    async def ring(message: Message[str]) -> None:
        done.append(message.body)

    async with app.testing() as kit:
        await kit.travel("1s")
        await app.queue("ticking").send_batch(["first tick", "second tick"])
        await app.queue("ringing").send("alarm")
        await kit.drain()
        assert done == []
        await kit.travel("1s")
        await kit.drain()
        assert done == ["alarm"]
        await kit.drain(within="2m")
    assert done == ["alarm", "first tick", "second tick"]
