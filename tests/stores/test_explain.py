"""`explain` names the true reason, situation by situation, on each store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor, JobFunction, RateLimited
from conveyor.jobs.explain import explain
from conveyor.model.ids import MessageId
from conveyor.store.records import ClaimRequest, Ending, Evidence, OwnerInfo
from conveyor.testing.factories import an_owner
from conveyor.testing.harness import Harness

from .conftest import make_store

pytestmark = pytest.mark.anyio


class Scene:
    """A queue of jobs, and a worker that takes what it is told to."""

    def __init__(self, app: Conveyor, kit: Harness, job: JobFunction[int, None]) -> None:
        self.app = app
        self.kit = kit
        self.job = job
        self.owner = 0

    async def hire(self) -> None:
        info = OwnerInfo(app=self.app.name, host=self.kit.store.host, pid=1, supervisor_pid=1)
        self.owner = await self.kit.store.register_owner(info)

    async def send(self, **options: Any) -> str:
        return (await self.job.options(**options).enqueue(1)).id

    async def take(self) -> None:
        await self.kit.store.claim(ClaimRequest(queue="q", owner=self.owner, limit=1, calls=1))

    async def reason(self, id: str) -> str:
        return (await explain(self.kit.store, MessageId(bytes.fromhex(id)))).word


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> dict[str, Any]:
    return getattr(request, "param", {})


@pytest.fixture
async def scene(limits: dict[str, Any], kind: str, tmp_path: Path) -> AsyncIterator[Scene]:
    app = Conveyor("shop", url="memory://")
    app.job_queue("q", **limits)

    @app.job(queue="q", backoff="1m")
    async def work(number: int) -> None:
        raise RateLimited("1m") if limits.get("alert_queue") else ValueError("no")

    kit = app.testing()
    kit.store = make_store(kind, tmp_path, kit.clock)
    async with kit:
        scene = Scene(app, kit, work)
        await scene.hire()
        yield scene


def limited(**limits: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("limits", [limits], indirect=True, ids=str)


async def test_next(scene: Scene) -> None:
    assert await scene.reason(await scene.send()) == "next"


async def test_scheduled(scene: Scene) -> None:
    assert await scene.reason(await scene.send(delay="1h")) == "scheduled"


async def test_running_and_cancelling(scene: Scene) -> None:
    id = await scene.send()
    await scene.take()
    assert await scene.reason(id) == "running"
    await scene.app.jobs.get(id).cancel()
    assert await scene.reason(id) == "cancelling"


async def test_retrying(scene: Scene) -> None:
    id = await scene.send()
    await scene.kit.drain()
    assert await scene.reason(id) == "retrying"


async def test_paused(scene: Scene) -> None:
    id = await scene.send()
    await scene.app.pause("q")
    assert await scene.reason(id) == "paused"


async def test_no_consumer(scene: Scene) -> None:
    id = await scene.send()
    await scene.kit.store.put_consumer("q", None)
    assert await scene.reason(id) == "no_consumer"


async def test_no_workers(scene: Scene) -> None:
    id = await scene.send()
    await scene.kit.store.reap_owner(scene.owner, Evidence(ending=Ending.EXITED))
    assert await scene.reason(id) == "no_workers"
    await scene.kit.store.register_owner(an_owner(app="conveyor"))
    assert await scene.reason(id) == "no_workers", "a server for the store alone works for nobody"
    await scene.kit.store.register_owner(an_owner(app="shop.main:app"))
    assert await scene.reason(id) != "no_workers", "as a supervisor writes it, who does not know the app's name"


@limited(alert_queue="bell")
async def test_throttled_and_put_off(scene: Scene) -> None:
    id = await scene.send()
    await scene.kit.drain()
    assert await scene.reason(id) == "put_off"
    assert await scene.reason(await scene.send()) == "throttled"


@limited(max_concurrency=1)
async def test_max_concurrency(scene: Scene) -> None:
    _, id = await scene.send(), await scene.send()
    await scene.take()
    assert await scene.reason(id) == "max_concurrency"


@limited(key_concurrency=1)
async def test_key_concurrency(scene: Scene) -> None:
    _, id = await scene.send(key="k"), await scene.send(key="k")
    await scene.take()
    assert await scene.reason(id) == "key_concurrency"


@limited(rate="1/m")
async def test_rate(scene: Scene) -> None:
    _, id = await scene.send(), await scene.send()
    await scene.take()
    assert await scene.reason(id) == "rate"


async def test_in_line(scene: Scene) -> None:
    _, id = await scene.send(), await scene.send()
    assert await scene.reason(id) == "in_line"


async def test_ends(scene: Scene) -> None:
    id = await scene.send(max_retries=0)
    await scene.kit.drain()
    assert await scene.reason(id) == "dead"
    id = await scene.send(delay="1h")
    await scene.app.jobs.get(id).cancel()
    assert await scene.reason(id) == "cancelled"


@limited(dispatch="alarm")
async def test_by_alarm(scene: Scene) -> None:
    """It waits a second for its alarm, then for the one that runs."""
    first, second = await scene.send(), await scene.send()
    for id in (first, second):
        assert "waits for its alarm" in await scene.app.jobs.get(id).explain()
    await scene.kit.clock.advance(0.999)
    assert await scene.reason(first) == "dispatch"
    await scene.kit.clock.advance(0.001)
    assert await scene.reason(first) == "next"
    await scene.take()
    assert (await scene.reason(first), await scene.reason(second)) == ("running", "dispatch")
    assert "one of queue `q` may run at a time" in await scene.app.jobs.get(second).explain()
