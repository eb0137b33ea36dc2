"""What a preview says would go is what goes: of runs and of the trail the newest stays, whatever its age."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.retention import Retention
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_draft, a_firing, a_queue, a_schedule

pytestmark = pytest.mark.anyio

DAY = 86_400
RUNS = 4


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory://", "sqlite:///{folder}/store.db"])
async def app(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Conveyor]:
    url = request.param.format(folder=tmp_path)
    async with Conveyor("shop", url=url, clock=clock, wrangler=None) as app:
        yield app


async def test_the_newest_run_is_not_announced_and_does_not_go(app: Conveyor, clock: ManualClock) -> None:
    store, retention = app.store, Retention(app.store)
    await store.create_queue("inbox", a_queue(retention_ms=60_000))
    await store.declare_schedule(a_schedule(), None)
    await retention.set("runs", "1d")
    start = clock.now_ms()
    for number in range(RUNS):
        await store.fire(a_firing(tick=start + number, message=a_draft()))
        await store.finish_run("nightly", start + number, error=None)
    assert await retention.preview() == []
    await clock.advance(2 * DAY)
    [due] = await retention.preview()
    assert (due.kind, due.scope, due.rows, due.keep_ms) == ("runs", "nightly", RUNS - 1, DAY * 1000)
    gone = sum([(await store.sweep()).runs for _ in range(3)])
    assert gone == due.rows
    assert await retention.preview() == []


async def test_a_result_that_is_kept_for_longer_keeps_its_job() -> None:
    app = Conveyor("shop", url="memory://", wrangler=None)

    @app.job(result_ttl="60d")
    async def long_kept(number: int) -> int:
        return number

    async with app.testing() as kit:
        retention = Retention(kit.store)
        await retention.set("jobs", "1d")
        job = await long_kept.enqueue(1)
        await kit.drain()
        await kit.travel("2d")
        assert (await retention.preview(), await job.result()) == ([], 1)
        kit.clock.step_back(-58 * DAY)
        assert [each.rows for each in await retention.preview()] == [1]


async def test_what_an_operator_says_holds_until_the_app_says_something_else(app: Conveyor) -> None:
    retention = Retention(app.store)

    async def said() -> tuple[int | None, str]:
        [found] = [each for each in await retention.list() if (each.kind, each.scope) == ("jobs", None)]
        return found.keep_ms, found.said_by

    await retention.declare({"jobs": 7 * DAY})
    assert await said() == (7 * DAY, "app")
    await retention.set("jobs", "1h")
    await retention.declare({"jobs": 7 * DAY})  # as at the app's next start
    assert await said() == (3_600_000, "operator")
    await retention.declare({"jobs": 8 * DAY})
    assert await said() == (8 * DAY, "app")
