"""The app: declarations are checked, it opens once and closes once, and survives loops that come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor, CronRun, Message, QueueSettings
from conveyor.model.beside import CronSyntaxError, ScheduleNotFoundError
from conveyor.model.errors import (
    ConsumerConflictError,
    InvalidDurationError,
    InvalidSettingError,
    QueueNotFoundError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def an_app(**parts: Any) -> Conveyor:
    return Conveyor("shop", **{"url": "memory://", **parts})


@pytest.mark.anyio
async def test_consumer_makes_its_queue_and_its_dead_letter_queue() -> None:
    app = an_app()

    @app.consumer("jobs", max_batch_timeout="2s", retry_delay="1m", timeout=30)
    async def handle(message: Message[int]) -> None: ...

    async with app:
        info = await app.info("jobs")
        assert info.consumer is not None
        assert (info.consumer.script, info.consumer.dead_letter_queue) == ("shop", "jobs-dlq")
        assert (info.consumer.max_batch_timeout_ms, info.consumer.timeout_ms) == (2_000, 30_000)
        assert info.consumer.retry_delay.base_ms == 60_000
        await app.queue("jobs").send(1)
        assert (await app.queue("jobs").metrics()).backlog_messages == 1


@pytest.mark.anyio
async def test_none_as_dead_letter_queue_makes_none() -> None:
    app = an_app()

    @app.consumer("jobs", dead_letter_queue=None)
    async def handle(message: Message[int]) -> None: ...

    async with app:
        assert [each.name for each in await app.store.list_queues()] == ["jobs"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_batch_size": 0}, InvalidSettingError),
        ({"max_retries": 101}, InvalidSettingError),
        ({"max_concurrency": 0}, InvalidSettingError),
        ({"timeout": float("nan")}, InvalidDurationError),
        ({"max_batch_timeout": "61s"}, InvalidDurationError),
        ({"retry_delay": "soon"}, InvalidDurationError),
        ({"dead_letter_queue": "no such name!"}, InvalidSettingError),
        ({"run_in": "moon"}, InvalidSettingError),
    ],
)
def test_bad_consumer_is_refused_where_it_is_declared(options: dict[str, Any], error: type[Exception]) -> None:
    app = an_app()

    async def handle(message: Message[int]) -> None: ...

    with pytest.raises(error):
        app.consumer("jobs", **options)(handle)


def test_queue_has_one_consumer() -> None:
    app = an_app()

    async def handle(message: Message[int]) -> None: ...

    app.consumer("jobs")(handle)
    with pytest.raises(InvalidSettingError, match="has a consumer in this app already"):
        app.consumer("jobs")(handle)


@pytest.mark.parametrize(
    ("expression", "options", "error"),
    [
        ("every day", {}, CronSyntaxError),
        ("0 0 30 2 *", {}, CronSyntaxError),
        ("* * * * *", {"timezone": "Mars/Olympus"}, CronSyntaxError),
        ("* * * * *", {"misfire": "some"}, InvalidSettingError),
        ("* * * * *", {"overlap": "maybe"}, InvalidSettingError),
        ("* * * * *", {"jitter": "2h"}, InvalidDurationError),
        ("* * * * *", {"max_retries": -1}, InvalidSettingError),
        ("* * * * *", {"name": "a b"}, InvalidSettingError),
        ("* * * * *", {"syntax": "quartz"}, InvalidSettingError),
    ],
)
def test_bad_schedule_is_refused_where_it_is_declared(
    expression: str, options: dict[str, Any], error: type[Exception]
) -> None:
    async def daily(run: CronRun) -> None: ...

    with pytest.raises(error):
        an_app().cron(expression, **options)(daily)


def test_scheduled_function_that_takes_no_run_is_refused() -> None:
    async def daily() -> None: ...

    with pytest.raises(InvalidSettingError, match="cannot be given its `CronRun`"):
        an_app().cron("@daily")(daily)


def test_schedule_is_declared_once() -> None:
    app = an_app()

    async def daily(run: CronRun) -> None: ...

    app.cron("@daily")(daily)
    with pytest.raises(InvalidSettingError, match="twice"):
        app.cron("@hourly")(daily)


def test_name_and_url_are_checked() -> None:
    with pytest.raises(InvalidSettingError):
        Conveyor("a shop")
    with pytest.raises(InvalidSettingError, match="no store is known"):
        Conveyor("shop", url="mysql://user:secret@host/db")
    with pytest.raises(InvalidSettingError) as caught:
        Conveyor("shop", url="redis://user:secret@host")
    assert "secret" not in str(caught.value)


def test_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_URL", "memory://")
    assert Conveyor("shop").url == "memory://"
    monkeypatch.delenv("CONVEYOR_URL")
    assert Conveyor("shop").url == "sqlite:///conveyor.db"


@pytest.mark.anyio
async def test_first_send_opens_and_unknown_queues_are_named() -> None:
    app = an_app()
    app.declare_queue("letters", QueueSettings(delivery_delay_ms=5_000))
    await app.queue("letters").send("x")
    with pytest.raises(QueueNotFoundError, match="`nowhere`"):
        await app.queue("nowhere").send("x")
    assert app.loop is asyncio.get_running_loop()
    await app.close()
    assert app.loop is None
    await app.close()


@pytest.mark.anyio
async def test_nested_uses_close_once_and_hooks_run_in_order() -> None:
    app, calls = an_app(), list[str]()

    @app.on_open
    async def opened() -> None:
        calls.append("opened")

    @app.on_close
    async def first() -> None:
        calls.append("first")

    @app.on_close
    async def last() -> None:
        calls.append("last")

    async with app, app:
        assert calls == ["opened"]
    assert calls == ["opened", "last", "first"]


@pytest.mark.anyio
async def test_hook_that_fails_leaves_the_app_closed_and_able_to_open_again() -> None:
    app, fails = an_app(), [True]

    @app.on_open
    async def sometimes() -> None:
        if fails.pop():
            raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        async with app:
            pass
    assert app.loop is None
    fails.append(False)
    async with app:
        assert app.loop is not None
    assert app.loop is None


@pytest.mark.anyio
async def test_store_is_closed_though_a_closing_hook_fails() -> None:
    app = an_app()

    @app.on_close
    async def clumsy() -> None:
        raise RuntimeError("dropped")

    with pytest.raises(RuntimeError, match="dropped"):
        async with app:
            pass
    assert app.loop is None


def test_app_lives_through_several_event_loops(tmp_path: Path) -> None:
    """Its lock too, though each loop had contention."""
    app = an_app(url=f"sqlite:///{tmp_path}/shop.db")
    app.declare_queue("jobs")

    async def send_together() -> None:
        await asyncio.gather(*(app.queue("jobs").send(n) for n in range(5)))
        await app.close()

    async def send_and_forget_to_close() -> None:
        await asyncio.gather(*(app.queue("jobs").send(n) for n in range(5)))

    asyncio.run(send_together())
    asyncio.run(send_and_forget_to_close())
    asyncio.run(send_together())

    async def count() -> int:
        async with app:
            return (await app.queue("jobs").metrics()).backlog_messages

    assert asyncio.run(count()) == 15


@pytest.mark.anyio
async def test_second_app_on_a_queue_is_refused_by_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    apps = [Conveyor(name, url=url) for name in ("shop", "rival")]
    for app in apps:

        @app.consumer("jobs")
        async def handle(message: Message[int]) -> None: ...

    async with apps[0]:
        pass
    with pytest.raises(ConsumerConflictError) as caught:
        async with apps[1]:
            pass
    assert "shop" in str(caught.value)
    assert "rival" in str(caught.value)


@pytest.mark.anyio
async def test_missing_folder_and_a_folder_as_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StoreUnsupportedError, match="does not exist"):
        await an_app(url=f"sqlite:///{tmp_path}/none/shop.db").ensure_open()
    with pytest.raises((StoreUnsupportedError, StoreReadOnlyError)):
        await an_app(url=f"sqlite:///{tmp_path}").ensure_open()


@pytest.mark.anyio
async def test_trigger_of_an_unknown_schedule_names_it() -> None:
    async with an_app() as app:
        with pytest.raises(ScheduleNotFoundError, match="nightly"):
            await app.trigger("nightly")


@pytest.mark.anyio
async def test_work_embedded_handles_messages_until_it_is_cancelled(tmp_path: Path) -> None:
    app = an_app(url=f"sqlite:///{tmp_path}/shop.db")
    handled: asyncio.Queue[int] = asyncio.Queue()

    @app.consumer("jobs")
    async def handle(message: Message[int]) -> None:
        handled.put_nowait(message.body)

    working = asyncio.create_task(app.work())
    await app.queue("jobs").send(7)
    assert await asyncio.wait_for(handled.get(), 60) == 7
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    async with app:
        assert await app.store.list_owners() == []


@pytest.mark.anyio
async def test_work_on_a_queue_nobody_handles_says_which_there_are() -> None:
    app = an_app()

    @app.consumer("jobs")
    async def handle(message: Message[int]) -> None: ...

    with pytest.raises(InvalidSettingError, match="`queues` is 'nope'"):
        await app.work(queues=["nope"])
