"""The kit's modes, its looks at what was enqueued, and results, failures and timers in a test."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta

import pytest

from conveyor import AlarmRun, Conveyor, CronRun, JobContext, JobState, Message, Reject, Retry, Snooze
from conveyor.model.errors import InvalidSettingError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Mail:
    to: str


class Shop:
    """An app with a job that may fail, one that sends others, and a plain consumer."""

    def __init__(self) -> None:
        self.app = app = Conveyor("shop")
        self.sent: list[str] = []

        @app.job(queue="mails", max_retries=2, backoff="1m")
        async def send_mail(mail: Mail, context: JobContext) -> str:
            if mail.to == "nobody":
                raise ConnectionError(f"no route, attempt {context.attempt}")
            self.sent.append(mail.to)
            return f"to {mail.to}"

        @app.job(queue="lists")
        def send_list(names: list[str]) -> int:
            for name in names:
                app.run_sync(send_mail.enqueue(Mail(name)))
            return len(names)

        @app.consumer("orders", max_retries=0)
        def pack(message: Message[str]) -> None:
            if message.body == "glass":
                raise ValueError("it is broken")
            self.sent.append(message.body)

        self.send_mail, self.send_list = send_mail, send_list


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_inline_a_job_runs_at_once_and_what_it_enqueues_too(shop: Shop) -> None:
    async with shop.app.testing(mode="inline") as kit:
        job = await shop.send_list.enqueue(["ann", "bob"])
        assert shop.sent == ["ann", "bob"]
        assert await job.result() == 2
        kit.assert_enqueued(shop.send_mail, payload=Mail("ann"), count=1)
        kit.assert_enqueued(shop.send_mail, count=2)
        kit.assert_not_enqueued(shop.send_mail, payload=Mail("eve"))
        assert [run.job for run in kit.runs] == ["send_mail", "send_mail", "send_list"]
        assert kit.failures == []


async def test_inline_the_error_is_raised_to_the_one_who_enqueues(shop: Shop) -> None:
    async with shop.app.testing(mode="inline") as kit:
        with pytest.raises(ConnectionError, match="no route, attempt 1"):
            await shop.send_mail.enqueue(Mail("nobody"))
        with pytest.raises(ValueError, match="broken"):
            await shop.app.queue("orders").send("glass")
        kit.assert_enqueued("orders-dlq", count=0)  # nobody sent it there
        assert [(run.job, run.attempt, type(run.error)) for run in kit.failures] == [
            ("send_mail", 1, ConnectionError),
            (None, 1, ValueError),
        ]
        with pytest.raises(ConnectionError):  # two of three run, and the first error is told
            await shop.send_mail.enqueue_many([Mail("cat"), Mail("nobody"), Mail("dan")])
        assert shop.sent == ["cat", "dan"]


async def test_inline_what_is_delayed_waits_and_verdicts_are_no_errors() -> None:
    app = Conveyor("shop")
    attempts: list[int] = []

    @app.job()
    async def count(number: int, context: JobContext) -> None:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            raise Snooze("1m")
        if len(attempts) == 2:
            raise Retry("1m")
        if number < 0:
            raise Reject("never")

    async with app.testing(mode="inline") as kit:
        later = await count.options(delay="10m").enqueue(1)
        assert attempts == []
        kit.assert_enqueued(count, delay="10m")
        await kit.drain(within="1h")
        assert (attempts, await later.state()) == ([1, 1, 2], JobState.SUCCEEDED)
        with pytest.raises(Reject, match="never"):
            await count.enqueue(-1)
        replaced = await count.options(unique="a", on_conflict="replace").enqueue(2)
        assert await replaced.state() is JobState.SUCCEEDED


async def test_inline_a_circle_of_jobs_is_told() -> None:
    app = Conveyor("shop")

    @app.job()
    async def again(number: int) -> None:
        await again.enqueue(number + 1)

    async with app.testing(mode="inline"):
        with pytest.raises(AssertionError, match="jobs enqueued each other"):
            await again.enqueue(0)


async def test_an_unknown_mode_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidSettingError, match="manual"):
        shop.app.testing(mode="eager")  # type: ignore[arg-type]  # wrong on purpose


async def test_what_was_enqueued_instead_is_shown(shop: Shop) -> None:
    async with shop.app.testing() as kit:
        with pytest.raises(AssertionError, match="nothing is enqueued there"):
            kit.assert_enqueued(shop.send_mail)
        await shop.send_mail.options(delay="5m", priority=8, key="ann").enqueue(Mail("ann"))
        kit.assert_enqueued(shop.send_mail, payload=Mail("ann"), delay="5m", key="ann", priority=8, count=1)
        kit.assert_enqueued("mails", body={"to": "ann"})
        kit.assert_enqueued(shop.app.queue("mails"), count=1)
        expected = (
            "job `send_mail` should be enqueued once at least with payload Mail(to='ann'), delay '1m'\n"
            'it holds 1, of which 0 fit:\n  - job `send_mail`, {"to":"ann"}, delay 300 s, priority 8, key \'ann\''
        )
        with pytest.raises(AssertionError, match=f"^{re.escape(expected)}$"):
            kit.assert_enqueued(shop.send_mail, payload=Mail("ann"), delay="1m")
        with pytest.raises(AssertionError, match="0 times with payload.*\n.*1 fit"):
            kit.assert_not_enqueued(shop.send_mail, payload={"to": "ann"})
        with pytest.raises(TypeError, match="one of them"):
            kit.assert_enqueued("mails", payload=1, body=1)
        with pytest.raises(AssertionError, match="no queue is named `mailz`"):
            kit.assert_enqueued("mailz")
        kit.assert_not_enqueued("mailz")


async def test_results_and_failures_are_seen(shop: Shop) -> None:
    async with shop.app.testing() as kit:
        good = await shop.send_mail.enqueue(Mail("ann"))
        assert await kit.result(good) == "to ann"
        bad = await shop.send_mail.enqueue(Mail("nobody"))
        with pytest.raises(AssertionError, match="not at its end: attempt 1 failed"):
            await kit.result(bad)
        assert await bad.state() is JobState.RETRYING
        assert await kit.drain(within="5m") == 2
        with pytest.raises(ConnectionError, match="attempt 3"):
            await kit.result(bad)
        assert [str(run.error) for run in kit.failures] == [f"no route, attempt {number}" for number in (1, 2, 3)]


async def test_drain_names_what_is_still_there(shop: Shop) -> None:
    app = shop.app

    @app.consumer("circle")
    async def again(message: Message[int]) -> None:
        await app.queue("circle").send(message.body)

    async with app.testing() as kit:
        await shop.send_mail.options(delay="2h").enqueue(Mail("ann"))
        await shop.send_mail.options(delay="3h").enqueue(Mail("bob"))
        with pytest.raises(AssertionError, match="not drained within '1h': `mails` holds 2 send_mail"):
            await kit.drain(within="1h")
        await app.queue("circle").send(1)
        with pytest.raises(AssertionError, match="after 10 calls:.*`circle` holds 1 messages"):
            await kit.drain(most=10)


async def test_waiting_for_a_job_that_nobody_runs_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor.testing.patience.PATIENCE_S", 0.05)
    async with shop.app.testing() as kit:
        job = await shop.send_mail.enqueue(Mail("ann"))
        with pytest.raises(AssertionError, match="await kit.drain"):
            await job.result()
        monkeypatch.setattr("conveyor.testing.patience.PATIENCE_S", 60.0)
        waiting = asyncio.create_task(job.result())
        await kit.drain()
        await kit.travel("1s")
        assert await waiting == "to ann"


async def test_alarms_and_schedules_run_at_their_own_moments() -> None:
    app = Conveyor("shop")
    rung: list[str] = []

    @app.cron("*/30 * * * *")
    async def tick(run: CronRun) -> None:
        rung.append(f"tick {kit.now:%H:%M}")

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        rung.append(f"tea {kit.now:%H:%M}")
        if alarm.attempt == 1:
            raise ConnectionError("the kettle is off")

    async with app.testing() as kit:
        began = kit.now
        await app.alarm("tea").set("40m")
        await kit.travel("59m")
        assert rung == ["tick 12:30", "tea 12:40", "tea 12:40"]
        await kit.travel_to(began + timedelta(minutes=90))
        assert (rung[3:], kit.now - began) == (["tick 13:00", "tick 13:30"], timedelta(minutes=90))


def test_a_test_that_is_not_async_has_the_same_kit(shop: Shop) -> None:
    with shop.app.testing() as kit:
        job = kit.run(shop.send_mail.enqueue(Mail("ann")))
        kit.assert_enqueued(shop.send_mail, payload=Mail("ann"))
        assert kit.drain() == 1
        kit.assert_not_enqueued(shop.send_mail)
        assert kit.result(job) == "to ann"
        late = shop.app.run_sync(shop.send_mail.options(delay="1h").enqueue(Mail("bob")))
        kit.travel("1h")
        assert kit.result(late) == "to bob"
    assert shop.app.loop is None
    with shop.app.testing(mode="inline") as kit, pytest.raises(ConnectionError):
        kit.run(shop.send_mail.enqueue(Mail("nobody")))
