"""What an app changes for a person is in the audit trail, in the transaction of the change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from conveyor import Conveyor, JobContext, QueueSettings
from conveyor.audit.act import acting
from conveyor.audit.trail import Audit, Record, operator
from conveyor.model.errors import ConflictError
from conveyor.queue.admin import Queues
from conveyor.retention import Retention
from conveyor.server.rights import Right
from conveyor.server.tokens import Tokens
from conveyor.testing.clock import ManualClock
from kit.postgres import the_server

pytestmark = pytest.mark.anyio
PEPPER = "a pepper of thirty-two characters"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with the_server().emptied() if request.param == "postgres" else contextlib.nullcontext(f"sqlite:///{tmp_path}/store.db") as url:
        yield url


async def add(number: int, context: JobContext) -> int:
    return number + 1


@pytest.fixture
async def app(url: str, clock: ManualClock) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=url, clock=clock)
    async with app:
        yield app


async def trail(app: Conveyor) -> list[Record]:
    """The oldest first."""
    return (await Audit(app.store).list(limit=100))[::-1]


async def test_a_job_is_cancelled_for_somebody(url: str, clock: ManualClock) -> None:
    app = Conveyor("shop", url=url, clock=clock)
    job_of = app.job()(add)
    async with app:
        mine, theirs = await job_of.enqueue(1), await job_of.enqueue(2)
        with app.acting_as("anna@example.com"):
            await theirs.cancel()
        await mine.cancel()
        await mine.cancel()  # changes nothing
        first, second = await trail(app)
        assert (first.action, first.target, first.name, first.via) == ("job.cancel", theirs.id, "anna@example.com", "library")
        assert (first.before, first.after) == ({"state": "queued"}, {"state": "cancelled"})
        assert second.target == mine.id and second.name != "anna@example.com"
        assert (await Audit(app.store).verify()).faults == []


async def test_what_workers_do_by_themselves_is_not_in_it(url: str) -> None:
    app = Conveyor("shop", url=url)
    job_of = app.job()(add)
    async with app:
        worker = asyncio.create_task(app.work())
        job = await job_of.enqueue(1)
        assert await job.result("20s") == 2
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        assert await trail(app) == []


async def test_an_app_that_declares_otherwise_than_before_says_so(url: str, clock: ManualClock) -> None:
    async def handle(body: int, context: JobContext) -> None: ...

    for retries in (3, 5, 5):
        app = Conveyor("shop", url=url, clock=clock)
        app.job(queue="q", max_retries=retries)(handle)
        async with app:
            pass
    async with app:
        [changed] = await trail(app)
    assert (changed.action, changed.target) == ("app.declare", "q")
    assert (changed.before, changed.after) == ({"consumer.max_retries": 3}, {"consumer.max_retries": 5})


async def test_a_change_and_its_record_are_one(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    await Queues(app.store).create("orders")

    def burst(*_: object) -> bytes:
        raise ConflictError("no")

    with monkeypatch.context() as patched:
        patched.setattr(Audit, "examine", burst)
        with pytest.raises(ConflictError):
            async with acting(app.store, "queue.pause", who=operator):
                await app.store.pause("orders")
    assert not (await app.store.get_queue("orders")).paused and await trail(app) == []
    async with acting(app.store, "queue.pause", who=operator):
        await app.store.pause("orders")
    [record] = await trail(app)
    assert (record.before, record.after) == ({"paused": False}, {"paused": True})


async def test_an_act_within_another_is_part_of_it(app: Conveyor) -> None:
    await Queues(app.store).create("orders")
    async with acting(app.store, "outer", "the whole", who=operator), acting(app.store, "inner"):
        await Queues(app.store).update("orders", QueueSettings(delivery_delay_ms=5))
        await app.store.pause("orders")
    assert [(each.action, each.target) for each in await trail(app)] == [("outer", "the whole")] * 2


async def test_a_task_that_outlives_an_act_is_not_in_it(app: Conveyor) -> None:
    await Queues(app.store).create("orders")
    gate = asyncio.Event()

    async def later() -> None:
        await gate.wait()
        await app.store.pause("orders")

    async with acting(app.store, "queue.update", who=operator):
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    gate.set()
    await task
    assert await trail(app) == []


async def test_changes_at_once_make_one_chain(app: Conveyor) -> None:
    async def make(number: int) -> None:
        async with acting(app.store, "queue.create", who=operator):
            await Queues(app.store).create(f"q{number}")

    await asyncio.gather(*(make(number) for number in range(20)))
    examined = await Audit(app.store).verify()
    assert (examined.records, examined.faults) == (20, [])


async def test_an_app_without_the_pepper_goes_on_and_tells_the_log(
    app: Conveyor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    async with acting(app.store, "queue.create", who=operator):
        await Queues(app.store).create("orders")
    monkeypatch.delenv("CONVEYOR_PEPPER")
    with caplog.at_level(logging.WARNING, "conveyor.audit"):
        async with acting(app.store, "queue.pause"):
            await app.store.pause("orders")
    assert (await app.store.get_queue("orders")).paused
    assert "queue.pause" in caplog.text and "CONVEYOR_PEPPER" in caplog.text
    monkeypatch.setenv("CONVEYOR_PEPPER", PEPPER)
    assert (await Audit(app.store, pepper=PEPPER).verify()).faults == []


async def test_no_secret_is_in_it(app: Conveyor) -> None:
    async with acting(app.store, "token.create", who=operator):
        _, secret = await Tokens(app.store).create("ci", frozenset({Right.READ}), created_by="a test")
    [record] = await trail(app)
    assert record.after is not None and set(record.after) == {
        "name", "rights", "queues", "expires_at", "created_by", "version",
    }  # fmt: skip
    assert str(secret) not in str(record)


async def test_the_trail_may_lose_its_beginning_by_retention_alone(app: Conveyor, clock: ManualClock) -> None:
    audit = Audit(app.store)
    for number in range(4):
        await audit.record(operator(), "x", str(number), result="ok")
    head = (await audit.verify()).head
    await clock.advance(100 * 86_400)
    await audit.record(operator(), "x", "young", result="ok")
    await Retention(app.store).set("audit", "30d")
    await app.store.sweep()
    examined = await audit.verify(expected=head)
    assert (examined.faults, examined.pruned, examined.records) == ([], 4, 5)
    assert [each.target for each in await audit.list(limit=9)] == ["young"]
    await Retention(app.store).clear("audit")
    assert [fault.number for fault in (await audit.verify()).faults] == [4], "nobody says so any more"


async def test_an_app_says_for_how_long_and_an_operator_may_say_otherwise(url: str, clock: ManualClock) -> None:
    async def kept(jobs: str) -> dict[tuple[str, str | None], tuple[int | None, str]]:
        app = Conveyor("shop", url=url, clock=clock)
        app.retention(jobs=jobs)
        app.retention(scope="emails", jobs="1d")
        async with app:
            found = await Retention(app.store).list()
            await Retention(app.store).set("jobs", "9d")
        return {(each.kind, each.scope): (each.keep_ms, each.said_by) for each in found}

    day = 86_400_000
    assert (await kept("7d"))["jobs", None] == (7 * day, "app")
    again = await kept("7d")
    assert again["jobs", None] == (9 * day, "operator") and again["jobs", "emails"] == (day, "app")
    assert (await kept("5d"))["jobs", None] == (5 * day, "app"), "it was declared otherwise"
