"""Steps within jobs: kept once, as their type; sleeps and waits that hold nothing; and no event is ever missed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from conveyor import (
    Conveyor,
    Job,
    JobContext,
    JobEventRefusedError,
    JobEventTimeoutError,
    JobFailedError,
    JobState,
    JobStepError,
    LeaseLostError,
    Reject,
    Snooze,
)
from conveyor.jobs import steps as stepping
from conveyor.jobs.kept import reader_of
from conveyor.model.step import STEP_BYTES_MAX, STEP_NAME_CHARS_MAX
from conveyor.model.verdict import Action, Settlement
from conveyor.testing.harness import Harness

pytestmark = pytest.mark.anyio


@dataclass
class Part:
    name: str


class Parcel(msgspec.Struct):
    name: str


class Letter(pydantic.BaseModel):
    name: str


class Row(TypedDict):
    name: str


async def part(name: str) -> Part:
    return Part(name)


def parcel(name: str) -> Parcel:
    return Parcel(name)


def letter(name: str) -> Letter:
    return Letter(name=name)


def rows(name: str) -> list[Row]:
    return [{"name": name}]


def pair(name: str) -> tuple[str, int]:
    return name, 1


def untold(name):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # a function that says nothing
    return Part(name), (1, 2)


def hidden(name: str) -> Any:
    return part(name)


MAKERS: list[tuple[Callable[..., Any], Any, Any]] = [
    (part, None, Part("n")), (parcel, None, Parcel("n")), (letter, None, Letter(name="n")), (rows, None, [{"name": "n"}]),
    (pair, None, ("n", 1)), (untold, None, [{"name": "n"}, [1, 2]]), (untold, tuple[Part, tuple[int, int]], (Part("n"), (1, 2))),
    (parcel, Part, Part("n")), (hidden, Part, Part("n")), (len, None, 1), (dict, None, {}),
    (lambda _name: None, None, None),
]  # fmt: skip


def make_app() -> Conveyor:
    return Conveyor("shop", url="memory://")


async def fails(kit: Harness, job: Job[Any]) -> str:
    await kit.drain()
    with pytest.raises(JobFailedError) as failed:
        await job.result(0)
    return failed.value.message


@pytest.mark.parametrize(("make", "wanted", "value"), MAKERS)
async def test_every_attempt_sees_the_same_value_of_the_same_type(make: Any, wanted: Any, value: Any) -> None:
    app, seen, runs = make_app(), [], []

    @app.job(backoff=0)
    async def work(number: int, context: JobContext) -> None:
        def counted() -> None:
            runs.append(1)

        arguments = () if make is dict else ("n",)
        seen.append(await context.step("make", make, *arguments, type=wanted))
        await context.step("count", counted)
        if context.attempt < 3:
            raise ValueError("again")

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        assert await job.state() is JobState.SUCCEEDED
    assert seen == [value] * 3 and {type(each) for each in seen} == {type(value)}
    assert runs == [1]


async def test_a_step_that_failed_is_run_again_by_the_policy_of_the_job() -> None:
    app, runs = make_app(), []

    @app.job(errors={OSError: 0, ValueError: None})
    async def work(number: int, context: JobContext) -> str:
        async def flaky() -> str:
            runs.append(context.attempt)
            if len(runs) < 3:
                raise OSError("down")
            return "up"

        return await context.step("flaky", flaky)

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        assert await job.result() == "up"
    assert runs == [1, 2, 3]


async def test_verdicts_pass_through_a_step() -> None:
    app = make_app()

    @app.job()
    async def work(number: int, context: JobContext) -> None:
        async def not_now() -> None:
            raise Snooze("1m") if context.enqueued_at == context.started_at else Reject("never")

        await context.step("s", not_now)

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        assert await job.state() is JobState.SCHEDULED
        await kit.travel("1m")
        assert "never" in await fails(kit, job)


@pytest.mark.parametrize("kind", ["step", "sleep", "event"])
async def test_a_name_that_is_there_twice_is_refused_with_a_hint(kind: str) -> None:
    app = make_app()

    @app.job()
    async def work(number: int, context: JobContext) -> None:
        for _ in range(2):
            if kind == "step":
                await context.step("same", pair, "n")
            elif kind == "sleep":
                await context.sleep("same", 0)
            else:
                await context.wait_for_event("same")

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await job.send_event("same")
        assert f"{kind} 'same': is there twice in one attempt" in await fails(kit, job)
        assert (await job.info()).attempts == 1, "no other follows"


async def test_each_kind_has_names_of_its_own() -> None:
    app = make_app()

    @app.job()
    async def work(number: int, context: JobContext) -> int:
        await context.sleep("paid", 0)
        return await context.wait_for_event("paid", type=int) + len(await context.step("paid", pair, "n"))

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await job.send_event("paid", 40)
        await kit.drain()
        assert await job.result() == 42


async def test_what_cannot_be_kept_fails_the_job_at_once_and_says_why() -> None:
    app = make_app()

    def wrong() -> Part:
        return {"title": 1}  # type: ignore[return-value]  # wrong on purpose

    tried: dict[str, tuple[Any, Any]] = {
        "a `object` cannot be kept": (object, None),
        "what is kept is no `Part`": (wrong, None),
        "the limit is 1,000,000": (lambda: "x" * STEP_BYTES_MAX, None),
        "cannot be kept: NaN": (lambda: float("nan"), None),
        "its type is not known": (lambda: 1, lambda: 1),
    }

    @app.job()
    async def work(problem: str, context: JobContext) -> None:
        function, wanted = tried[problem]
        await context.step("s", function, type=wanted)

    async with app.testing() as kit:
        for problem in tried:
            assert problem in await fails(kit, await work.enqueue(problem))


@pytest.mark.parametrize("name", ["", "x" * (STEP_NAME_CHARS_MAX + 1), "\0", "\ud800", 1])
async def test_names_are_text_that_every_store_holds(name: Any) -> None:
    app = make_app()

    @app.job()
    async def work(number: int, context: JobContext) -> None:
        await context.step(name, pair, "n")

    async with app.testing() as kit:
        job = await work.enqueue(1)
        with pytest.raises(JobStepError):
            await job.send_event(name)
        assert "its name must be text" in await fails(kit, job)


async def test_there_is_a_bound_of_steps_and_of_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    @app.job()
    async def work(size: int, context: JobContext) -> None:
        for number in range(5):
            await context.step(f"s-{number}", lambda: "x" * size)

    async with app.testing() as kit:
        monkeypatch.setattr(stepping, "STEPS_MAX", 4)
        assert "at most 4 steps" in await fails(kit, await work.enqueue(1))
        monkeypatch.setattr(stepping, "STEPS_MAX", 9)
        monkeypatch.setattr(stepping, "STEPS_BYTES_MAX", 400)
        assert "more than 400 bytes" in await fails(kit, await work.enqueue(99))


async def test_a_kept_result_of_a_former_type_fails_the_job_and_can_be_sent_again() -> None:
    app, wanted = make_app(), list[Any]([str])

    @app.job(backoff=0)
    async def work(number: int, context: JobContext) -> None:
        await context.step("s", lambda: "text", type=wanted[0])
        if len(wanted) == 1 and context.attempt == 1:
            wanted[0] = int
            raise ValueError("deployed")

    async with app.testing() as kit:
        job = await work.enqueue(1)
        assert "what is kept is no `int`" in await fails(kit, job)
        wanted[0] = str
        wanted.append(str)
        await job.retry()
        await kit.drain()
        assert await job.state() is JobState.SUCCEEDED


async def test_a_sleep_holds_no_worker_and_spends_no_attempt() -> None:
    app, runs = make_app(), []

    @app.job(max_retries=0, expires_in="1m")
    async def work(number: int, context: JobContext) -> int:
        runs.append(context.attempt)
        for day in range(30):
            await context.sleep(f"day-{day}", "1d")
        return number

    async with app.testing() as kit:
        job = await work.enqueue(1)
        for _ in range(30):
            await kit.drain()
            assert "it sleeps until" in await job.explain()
            assert (await job.info()).steps[-1].state == "sleeping"
            await kit.travel("1d")
        await kit.drain()
        assert await job.result() == 1
    assert runs == [1] * 31


async def test_one_that_has_slept_often_is_not_taken_for_unknown_at_once() -> None:
    app, old = make_app(), make_app()

    @app.job()
    async def work(number: int, context: JobContext) -> None:
        for day in range(40):
            await context.sleep(f"day-{day}", "1d")

    @old.job()
    async def other(number: int) -> None: ...

    async with app.testing() as kit:
        job = await work.enqueue(1)
        for _ in range(30):
            await kit.drain()
            await kit.travel("1d")
        [theirs] = old.handlers()
        old.use_store(kit.store)
        await kit._run([theirs], 100)  # a process of the release before
        assert "it was put off until" in await job.explain()
        await kit.travel("1m")
        await kit.drain()
        assert "it sleeps until" in await job.explain()


async def test_an_event_wakes_its_job_and_a_timeout_is_for_good() -> None:
    app = make_app()

    @app.job(max_retries=5, backoff=0)
    async def work(number: int, context: JobContext) -> str:
        try:
            late = await context.wait_for_event("late", timeout="10m")
        except JobEventTimeoutError:
            late = None
        part = await context.wait_for_event("paid", timeout="1h", type=Part)
        if context.attempt < 3:
            raise ValueError("again")
        return f"{late} {part}"

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        assert "it waits for event `late`" in await job.explain()
        await kit.travel("10m")
        await kit.drain()
        await app.jobs.send_event(job.id, "late", 1)
        assert "it waits for event `paid`" in await job.explain(), "that came too late"
        await job.send_event("paid", Part("a"))
        await job.send_event("paid", Part("b"))
        await kit.drain()
        assert await job.result() == "None Part(name='a')"
        states = [(each.name, each.state.value) for each in (await job.info()).steps]
        assert states == [("late", "timed_out"), ("paid", "received")]
        with pytest.raises(JobEventRefusedError, match="it is succeeded"):
            await job.send_event("paid", 1)


async def test_a_timeout_that_nobody_catches_fails_the_job_and_a_retry_waits_anew() -> None:
    app = make_app()

    @app.job(max_retries=5, backoff=0)
    async def work(number: int, context: JobContext) -> int:
        return await context.wait_for_event("paid", timeout="10m", type=int)

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        await kit.travel("10m")
        assert "no event `paid` came within 600 s" in await fails(kit, job)
        with pytest.raises(JobEventRefusedError):
            await job.send_event("paid", 1)
        await job.retry()
        await kit.drain()
        assert "it waits for event `paid`" in await job.explain()
        await job.send_event("paid", 7)
        await kit.drain()
        assert await job.result() == 7


@pytest.mark.parametrize("way", ["gather", "group"])
async def test_steps_and_waits_side_by_side(way: str) -> None:
    app, runs = make_app(), []

    async def make(name: str) -> str:
        runs.append(name)
        return name

    @app.job()
    async def work(number: int, context: JobContext) -> list[str]:
        wanted = [
            context.step("a", make, "a"), context.step("b", make, "b"), context.wait_for_event("one", timeout="2h", type=str),
            context.wait_for_event("two", timeout="1h", type=str),
        ]  # fmt: skip
        if way == "gather":
            return await asyncio.gather(*wanted)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in wanted]
        return [each.result() for each in tasks]

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        await kit.drain()
        for name in ("one", "two"):
            await job.send_event(name, name)
            await kit.drain()
        await kit.drain()
        assert await job.result() == ["a", "b", "one", "two"]
    assert sorted(runs) == ["a", "b"]


async def test_a_failure_beside_a_wait_is_a_failure() -> None:
    app = make_app()

    @app.job(max_retries=0)
    async def work(number: int, context: JobContext) -> None:
        async def boom() -> None:
            raise KeyError("boom")

        async with asyncio.TaskGroup() as group:
            group.create_task(context.wait_for_event("one"))
            group.create_task(context.step("boom", boom))

    async with app.testing() as kit:
        assert "boom" in await fails(kit, await work.enqueue(1))


async def test_functions_that_are_not_async_have_the_same_in_blocking() -> None:
    app, runs = make_app(), []

    @app.job(backoff=0)
    def work(number: int, context: JobContext) -> str:
        made = [context.blocking.step(each.__name__, each, "n") for each in (part, parcel)]
        runs.append([type(each) for each in made])
        if context.attempt == 1:
            raise ValueError("again")
        context.blocking.sleep("rest", "1m")
        return context.blocking.wait_for_event("paid", type=Part).name

    @app.job()
    def wrong(number: int, context: JobContext) -> None:
        context.step("a", pair, "n")  # type: ignore[unused-coroutine]  # wrong on purpose

    async with app.testing() as kit:
        job = await work.enqueue(1)
        await kit.drain()
        await kit.travel("1m")
        await kit.drain()
        await job.send_event("paid", Part("x"))
        await kit.drain()
        assert await job.result() == "x"
        assert runs[0] == [Part, Parcel] and len(runs) == 4
        assert "this job's function is not async" in await fails(kit, await wrong.enqueue(1))


async def test_an_attempt_that_has_lost_its_job_keeps_nothing_and_goes_no_further() -> None:
    app, seen, kits = make_app(), list[bool](), list[Harness]()

    @app.job(backoff=0)
    async def work(number: int, context: JobContext) -> int:
        async def taken_away() -> int:
            if context.attempt == 1:
                [owner] = await kits[0].store.list_owners()
                [message] = await kits[0].store.peek("shop-jobs", limit=1)
                await kits[0].store.settle(owner.owner, [Settlement(message.seq, 1, Action.RETRY, 0)])
            return context.attempt

        async def never() -> None:
            seen.append(False)

        try:
            return await context.step("s", taken_away)
        except LeaseLostError:
            seen.append(context.is_lost)
            with pytest.raises(LeaseLostError):
                await context.step("t", never)
            raise

    async with app.testing() as kit:
        kits.append(kit)
        job = await work.enqueue(1)
        await kit.drain()
        assert await job.result() == 2
        assert seen == [True]
        assert [each.attempt for each in (await job.info()).steps] == [2]


async def test_a_job_without_steps_asks_the_store_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    @app.job()
    async def work(number: int, context: JobContext) -> str:
        return context.id

    async with app.testing() as kit:
        monkeypatch.setattr(type(kit.store), "steps", property(lambda _store: pytest.fail("it was asked")))
        await work.enqueue(1)
        await kit.drain()


class Crash(BaseException):
    """The process is gone."""


class Point:
    """Does something at the n-th moment of a job's dealings with its store: before, or after, each operation."""

    def __init__(self, kit: Harness, at: int, act: Callable[[], Any]) -> None:
        self.moments = itertools.count()
        self._store: Any = kit.store
        self._at = at
        self._act = act
        for verb in ("claim", "settle", "read", "write"):
            setattr(self._store, verb, self._around(getattr(self._store, verb)))

    def _around(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **parts: Any) -> Any:
            await self._moment()
            answer = await operation(*arguments, **parts)
            await self._moment()
            return answer

        return call

    async def _moment(self) -> None:
        if next(self.moments) == self._at:
            await self._act()

    @property
    def is_past(self) -> bool:
        return next(self.moments) <= self._at


def make_long_job(app: Conveyor, runs: list[str]) -> Any:
    @app.job(backoff=0, max_retries=9)
    async def work(number: int, context: JobContext) -> str:
        async def make(name: str) -> str:
            runs.append(name)
            return name

        first = await context.step("a", make, "a")
        await context.sleep("rest", "10m")
        paid = await context.wait_for_event("paid", timeout="1h", type=str)
        return f"{first} {paid} {await context.step('b', make, 'b')}"

    return work


async def test_an_event_at_any_moment_wakes_its_job_once_and_for_all() -> None:
    """No time passes after the sleep: a wake-up that is missed leaves the job waiting, and the test fails."""
    at = 0
    for at in itertools.count():
        app, runs = make_app(), list[str]()
        work = make_long_job(app, runs)
        async with app.testing() as kit:
            job = await work.enqueue(1)

            async def send(job: Job[Any] = job) -> None:
                await job.send_event("paid", "yes")

            point = Point(kit, at, send)
            await kit.drain()
            await kit.travel("10m")
            await kit.drain()
            if point.is_past:
                break
            await kit.drain()  # it may have come after the last claim
            assert await job.result(0) == "a yes b", f"at moment {at}"
            assert runs == ["a", "b"]
    assert at > 12, "it must have been tried at every moment"


async def test_a_crash_at_any_moment_loses_no_step_that_was_kept() -> None:
    at = 0
    for at in itertools.count():
        app, runs = make_app(), list[str]()
        before, kept = list[str](), set[str]()
        work = make_long_job(app, runs)
        async with app.testing() as kit:
            job = await work.enqueue(1)

            async def crash() -> None:
                raise Crash

            point = Point(kit, at, crash)
            for travelled in ("10m", 0, "10m"):
                for _ in range(2):
                    try:
                        await kit.drain()
                    except Crash:
                        kept = {each.name for each in (await job.info()).steps}
                        before = list(runs)
                await kit.travel(travelled)
            await job.send_event("paid", "yes") if await job.state() is not JobState.SUCCEEDED else None
            for _ in range(2):
                try:
                    await kit.drain()
                except Crash:
                    kept, before = {each.name for each in (await job.info()).steps}, list(runs)
            assert await job.result(0) == "a yes b", f"at moment {at}"
            if point.is_past:
                break
            again = runs[len(before) :]
            assert not set(again) & kept, f"at moment {at}: what was kept ran again"
    assert at > 16


def test_readers_are_made_once() -> None:
    assert reader_of("s", part, None) is reader_of("t", part, None)
