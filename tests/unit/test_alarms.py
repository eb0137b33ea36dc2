"""Alarms as an app sees them: one durable timer per name."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conveyor import (
    AlarmNotFoundError,
    AlarmRun,
    AlarmState,
    AlarmTakenError,
    ConflictError,
    Conveyor,
    InvalidError,
    RateLimited,
    Reject,
    Retry,
)
from conveyor.testing.clock import ManualClock
from conveyor.testing.harness import Harness

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def app() -> Conveyor:
    return Conveyor("shop", url="memory://")


async def test_an_alarm_rings_once_when_it_is_due(app: Conveyor) -> None:
    runs: list[AlarmRun] = []

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        runs.append(alarm)

    async with app.testing() as kit:
        due = await app.alarm("tea").set("5m")
        assert due == moment(kit) + timedelta(minutes=5)
        assert await app.alarm("tea").get() == due
        await kit.travel("4m")
        await kit.drain()
        assert runs == []
        await kit.travel("1m")
        await kit.drain()
        assert runs == [AlarmRun(name="tea", due=due, attempt=1)]
        assert not runs[0].is_retry
        assert await app.alarm("tea").get() is None
        assert await app.alarm("tea").info() is None
        await kit.travel("1d")
        assert await kit.drain() == 0


@pytest.mark.parametrize(
    ("when", "seconds"),
    [(90, 90), ("2h", 7_200), (timedelta(days=400), 400 * 86_400), (0, 0)],
)
async def test_a_duration_counts_from_now(app: Conveyor, when: object, seconds: int) -> None:
    app.alarm_handler()(lambda _alarm: None)
    async with app.testing() as kit:
        assert await app.alarm("tea").set(when) == moment(kit) + timedelta(seconds=seconds)  # type: ignore[arg-type]  # of any kind


async def test_a_moment_of_the_past_rings_at_once(app: Conveyor) -> None:
    runs: list[AlarmRun] = []
    app.alarm_handler()(runs.append)
    past = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    async with app.testing() as kit:
        assert await app.alarm("tea").set(past) == past
        await kit.drain()
    assert [run.due for run in runs] == [past]


@pytest.mark.parametrize("when", [datetime(2030, 1, 1), -1, "soon", timedelta(days=40_000)])
async def test_what_is_no_moment_is_refused(app: Conveyor, when: object) -> None:
    app.alarm_handler()(lambda _alarm: None)
    async with app.testing():
        with pytest.raises(InvalidError):
            await app.alarm("tea").set(when)  # type: ignore[arg-type]  # of any kind
        assert await app.alarm("tea").get() is None


@pytest.mark.parametrize("name", ["", "x" * 257, "a\0b", "\ud800", 7])
def test_what_is_no_name_is_refused(app: Conveyor, name: str) -> None:
    with pytest.raises(InvalidError):
        app.alarm(name)


async def test_a_replaced_alarm_never_starts(app: Conveyor) -> None:
    runs: list[AlarmRun] = []
    app.alarm_handler()(runs.append)
    async with app.testing() as kit:
        await app.alarm("tea").set("1m")
        last = await app.alarm("tea").set("10m")
        await kit.travel("9m")
        await kit.drain()
        assert runs == []
        await kit.travel("1m")
        await kit.drain()
        assert [run.due for run in runs] == [last]


async def test_a_message_of_a_former_generation_rings_nothing(app: Conveyor) -> None:
    """As one that a worker had in its hands when its alarm was set anew."""
    runs: list[AlarmRun] = []
    app.alarm_handler()(runs.append)
    async with app.testing() as kit:
        last = await app.alarm("tea").set("10m")
        await app.queue("shop-alarms").send({"alarm": "tea"})
        assert await kit.drain() == 1
        assert runs == []
        assert await app.alarm("tea").get() == last


async def test_one_run_ends_before_the_next_begins(app: Conveyor) -> None:
    app.alarm_handler()(lambda _alarm: None)
    async with app.testing():
        await app.alarm("tea").set("10m")
        [message] = await app.store.peek("shop-alarms", limit=1)
        consumer = (await app.store.get_queue("shop-alarms")).consumer
        assert consumer is not None
        assert (message.key, consumer.key_concurrency) == ("tea", 1)


async def test_a_cancelled_alarm_never_starts(app: Conveyor) -> None:
    runs: list[AlarmRun] = []
    app.alarm_handler()(runs.append)
    async with app.testing() as kit:
        await app.alarm("tea").set("1m")
        assert await app.alarm("tea").cancel()
        assert not await app.alarm("tea").cancel()
        await kit.travel("1h")
        assert await kit.drain() == 0
    assert runs == []


async def test_names_choose_their_function(app: Conveyor) -> None:
    runs: list[tuple[str, str]] = []
    for pattern in ("cart-*", "*", "cart-1"):
        app.alarm_handler(pattern)(lambda alarm, pattern=pattern: runs.append((pattern, alarm.name)))
    async with app.testing() as kit:
        for name in ("cart-1", "cart-2", "egg"):
            await app.alarm(name).set(0)
        await kit.drain()
    assert sorted(runs) == [("*", "egg"), ("cart-*", "cart-2"), ("cart-1", "cart-1")]


async def test_a_name_that_nobody_handles_is_refused(app: Conveyor) -> None:
    app.alarm_handler("egg")(lambda _alarm: None)
    async with app.testing():
        with pytest.raises(InvalidError, match="no handler takes"):
            await app.alarm("tea").set(0)


async def test_an_app_without_handlers_needs_one_that_has_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    async with Conveyor("shop", url=url) as producer:
        with pytest.raises(InvalidError, match="no process of this app handles alarms"):
            await producer.alarm("tea").set(0)
        worker = Conveyor("shop", url=url)
        worker.alarm_handler()(lambda _alarm: None)
        async with worker:
            await producer.alarm("tea").set("1h")
            assert await worker.alarm("tea").get() == await producer.alarm("tea").get()


async def test_names_are_global_in_a_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    one, other = Conveyor("one", url=url), Conveyor("other", url=url)
    for app in (one, other):
        app.alarm_handler()(lambda _alarm: None)
    async with one, other:
        await one.alarm("tea").set("1h")
        with pytest.raises(AlarmTakenError):
            await other.alarm("tea").set("2h")
        with pytest.raises(AlarmTakenError):
            await other.alarm("tea").cancel()
        assert await other.alarm("tea").get() is None
        assert await one.alarm("tea").get() is not None


def test_declarations_that_cannot_be_right_are_refused(app: Conveyor) -> None:
    app.alarm_handler("tea")(lambda _alarm: None)
    with pytest.raises(InvalidError, match="twice"):
        app.alarm_handler("tea")(lambda _alarm: None)
    with pytest.raises(InvalidError, match="cannot be given"):
        app.alarm_handler("egg")(lambda: None)


async def test_retries_are_those_of_cloudflare_and_the_exhausted_is_parked(app: Conveyor) -> None:
    """Measured there: 2.08, 4.94, 8.13, 16.1, 33.3, 77.6 s, and then the alarm is gone. Here it stays."""
    runs: list[tuple[float, int]] = []

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        runs.append((kit.clock.now_ms() / 1000, alarm.attempt))
        raise ValueError("boom")

    async with app.testing() as kit:
        await app.alarm("tea").set(0)
        await kit.drain()
        info = await app.alarm("tea").info()
        assert info is not None
        assert (info.state, info.error) == (AlarmState.RETRYING, "ValueError: boom")
        assert await app.alarm("tea").get() == info.next
        for _ in range(1_600):
            await kit.travel("250ms")
            await kit.drain()
        assert [attempt for _, attempt in runs] == [1, 2, 3, 4, 5, 6, 7]
        gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(runs)]
        for number, gap in enumerate(gaps):
            assert 2 * 2**number <= gap <= 2 * 2**number * 1.25 + 0.5
        assert any(gap > 2 * 2**number + 0.5 for number, gap in enumerate(gaps)), "spread, so that not all come at once"
        parked = await app.alarm("tea").info()
        assert parked is not None
        assert (parked.state, parked.next, parked.error) == (AlarmState.PARKED, None, "ValueError: boom")
        kit.assert_enqueued("shop-alarms-dlq", count=1)


async def test_a_parked_alarm_is_armed_again(app: Conveyor) -> None:
    attempts: list[int] = []

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        attempts.append(alarm.attempt)
        raise Reject("never")

    async with app.testing() as kit:
        with pytest.raises(AlarmNotFoundError):
            await app.alarm("tea").rearm()
        await app.alarm("tea").set(0)
        with pytest.raises(ConflictError, match="not parked"):
            await app.alarm("tea").rearm()
        await kit.drain()
        assert await app.alarm("tea").rearm("1m") == moment(kit) + timedelta(minutes=1)
        kit.assert_enqueued("shop-alarms-dlq", count=0)
        assert attempts == [1]
        await kit.travel("1m")
        await kit.drain()
        assert attempts == [1, 1]


async def test_an_alarm_that_was_set_meanwhile_is_not_armed_over(
    app: Conveyor, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        raise Reject("never")

    async with app.testing() as kit:
        await app.alarm("tea").set(0)
        await kit.drain()
        parked = await app.store.get_alarm("tea")
        wanted = await app.alarm("tea").set("1h")

        async def get_late(_name: str) -> object:
            return parked

        with monkeypatch.context() as patch, pytest.raises(ConflictError):
            patch.setattr(app.store, "get_alarm", get_late)
            await app.alarm("tea").rearm("1m")
        assert await app.alarm("tea").get() == wanted


async def test_set_during_its_run_it_rings_again_and_a_failure_counts_as_an_ack(app: Conveyor) -> None:
    """cloudflare-docs#15685: `setAlarm` early, and then throw, ends the chain of retries; what was set goes on."""
    runs: list[tuple[int, datetime | None]] = []

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        before = await app.alarm("tea").get()
        if len(runs) < 3:
            await app.alarm("tea").set("1h")
        runs.append((alarm.attempt, before))
        if len(runs) <= 3:
            raise ValueError("boom")

    async with app.testing() as kit:
        await app.alarm("tea").set(0)
        for _ in range(3):
            await kit.drain()
            info = await app.alarm("tea").info()
            assert info is not None
            assert (info.state, info.error) == (AlarmState.SCHEDULED, None)
            await kit.travel("1h")
        await kit.drain()
        assert runs == [(1, None)] * 4, "always a first attempt, and not set while it runs"


async def test_cancelled_during_its_run_it_is_not_tried_again(app: Conveyor) -> None:
    runs: list[int] = []

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> None:
        runs.append(alarm.attempt)
        assert await app.alarm("tea").cancel()
        raise ValueError("boom")

    async with app.testing() as kit:
        await app.alarm("tea").set(0)
        await kit.drain()
        await kit.travel("1h")
        assert await kit.drain() == 0
        kit.assert_enqueued("shop-alarms-dlq", count=0)
        assert kit.failures == [], "nobody wants it any more"
    assert runs == [1]


async def test_verdicts_are_heard(app: Conveyor) -> None:
    runs: list[int] = []

    @app.alarm_handler("tea")
    async def ring(alarm: AlarmRun) -> object:
        runs.append(alarm.attempt)
        if len(runs) == 1:
            raise RateLimited("30s", scope="key")
        return Retry("10m") if len(runs) == 2 else None

    async with app.testing() as kit:
        await app.alarm("tea").set(0)
        await kit.drain()
        await kit.travel("30s")
        await kit.drain()
        await kit.travel("9m")
        await kit.drain()
        assert runs == [1, 1]
        await kit.travel("1m")
        await kit.drain()
        assert runs == [1, 1, 2]
        assert await app.alarm("tea").info() is None


async def test_a_handler_that_is_gone_parks_its_alarms(app: Conveyor) -> None:
    app.alarm_handler("tea")(lambda _alarm: None)
    async with app.testing() as kit:
        await app.alarm("tea").set(0)
        app.alarm._functions.clear()
        app.alarm.handler("egg")(lambda _alarm: None)
        for _ in range(200):
            await kit.drain()
            await kit.travel("1s")
        info = await app.alarm("tea").info()
        assert info is not None
        assert info.state is AlarmState.PARKED
        assert "no handler takes" in (info.error or "")


@pytest.mark.parametrize("sync", [False, True])
async def test_a_worker_rings_it_in_time(tmp_path: Path, sync: bool) -> None:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db")
    rung: asyncio.Queue[tuple[datetime, datetime]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def note(alarm: AlarmRun) -> None:
        now = datetime.fromtimestamp(app.store.clock.now_ms() / 1000, UTC)
        loop.call_soon_threadsafe(rung.put_nowait, (alarm.due, now))

    async def note_async(alarm: AlarmRun) -> None:
        note(alarm)

    app.alarm_handler("tea")(note if sync else note_async)
    async with app:
        working = asyncio.create_task(app.work())
        await app.alarm("tea").set("200ms")
        async with asyncio.timeout(60):
            due, at = await rung.get()
        assert timedelta(0) <= at - due, "never early"
        working.cancel()
        await asyncio.wait([working])


def moment(kit: Harness) -> datetime:
    clock: ManualClock = kit.clock
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
