"""Jobs from their declaration to their end, in memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from conveyor import (
    Backoff,
    BodyTooLargeError,
    Conveyor,
    InvalidError,
    Job,
    JobCancelledError,
    JobContext,
    JobExistsError,
    JobFailedError,
    JobNotFoundError,
    JobNotRetriableError,
    JobResultExpiredError,
    JobState,
    JobTimeoutError,
    Message,
    RateLimited,
    Reject,
    Retry,
    Snooze,
)
from conveyor.model.errors import InvalidSettingError
from conveyor.model.ids import MessageId
from conveyor.model.job import NAME_HEADER, JobRecord
from conveyor.model.message import ContentType, Lease
from conveyor.model.verdict import Action

pytestmark = pytest.mark.anyio


@dataclass
class Mail:
    to: str


class Parcel(msgspec.Struct):
    to: str


class Letter(pydantic.BaseModel):
    to: str


def make_app() -> Conveyor:
    return Conveyor("shop", url="memory://")


async def states(job: Job[Any]) -> list[str]:
    return [each.state.value for each in (await job.info()).timeline]


async def test_a_result_comes_back_as_its_type() -> None:
    app = make_app()

    @app.job()
    async def by_dataclass(mail: Mail, context: JobContext) -> Mail:
        return Mail(f"{mail.to} {context.attempt} {context.name} {context.queue}")

    @app.job()
    def by_struct(parcel: Parcel) -> Parcel:
        return Parcel(parcel.to * 2)

    @app.job()
    def by_model(letter: Letter) -> Letter:
        return Letter(to=letter.to * 2)

    @app.job()
    def nothing(number: int) -> None: ...

    async with app.testing() as kit:
        first = await by_dataclass.enqueue(Mail("ann"))
        second, third = await by_struct.enqueue(Parcel("b")), await by_model.enqueue(Letter(to="c"))
        last = await nothing.enqueue(1)
        assert await kit.drain() == 4
        assert await first.result() == Mail("ann 1 by_dataclass shop-jobs")
        assert await second.result() == Parcel("bb")
        assert await third.result() == Letter(to="cc")
        await last.result()
        assert await states(first) == ["queued", "running", "succeeded"]


async def test_calling_a_job_is_calling_its_function() -> None:
    app = make_app()

    @app.job()
    async def double(number: int, context: JobContext) -> int:
        return number * 2

    @app.job()
    def triple(number: int) -> int:
        return number * 3

    assert await double(4) == 8
    assert triple(4) == 12


async def test_a_failed_attempt_is_followed_by_another() -> None:
    app = make_app()
    attempts: list[int] = []

    @app.job(max_retries=2, backoff="10s")
    async def fail(number: int, context: JobContext) -> None:
        attempts.append(context.attempt)
        raise ValueError(f"no {number}")

    async with app.testing() as kit:
        job = await fail.enqueue(7)
        await kit.drain()
        assert await job.state() is JobState.RETRYING
        assert "ValueError: no 7" in await job.explain()
        for _ in range(2):
            await kit.travel("10s")
            await kit.drain()
        assert attempts == [1, 2, 3]
        assert await job.state() is JobState.DEAD
        expected = ["queued", *["running", "retrying"] * 2, "running", "dead"]
        assert await states(job) == expected
        with pytest.raises(JobFailedError, match="ValueError: no 7"):
            await job.result()
        await job.retry()
        assert await job.state() is JobState.QUEUED
        with pytest.raises(JobNotRetriableError):
            await job.retry()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("x"), JobState.FAILED),
        (ConnectionResetError(), JobState.RETRYING),
        (LookupError(), JobState.RETRYING),
        (Reject("never"), JobState.FAILED),
        (Retry("1m"), JobState.RETRYING),
        (ExceptionGroup("one", [KeyError("x")]), JobState.FAILED),
    ],
    ids=repr,
)
async def test_errors_are_judged_by_their_nearest_class(error: Exception, expected: JobState) -> None:
    app = make_app()

    @app.job(errors={KeyError: None, OSError: "1m", Exception: Backoff.fixed("5m")})
    async def fail(number: int) -> None:
        raise error

    async with app.testing() as kit:
        job = await fail.enqueue(1)
        await kit.drain()
        assert await job.state() is expected
        if expected is JobState.RETRYING:
            wait = "5m" if isinstance(error, LookupError) else "1m"
            await kit.travel(wait)
            assert await kit.drain() == 1


async def test_a_function_may_say_how_long_to_wait() -> None:
    app = make_app()

    @app.job(backoff=lambda attempt, _error: None if attempt > 1 else f"{2**attempt}m")
    def fail(number: int) -> None:
        raise ValueError

    async with app.testing() as kit:
        job = await fail.enqueue(1)
        await kit.drain()
        await kit.travel("119s")
        assert await kit.drain() == 0
        await kit.travel("1s")
        assert await kit.drain() == 1
        assert await job.state() is JobState.FAILED


async def test_a_snooze_and_a_rate_limit_cost_no_attempt() -> None:
    app = make_app()
    said: list[Exception | None] = [Snooze("1m"), RateLimited("1m"), None]
    attempts: list[int] = []

    @app.job(max_retries=0)
    async def wait(number: int, context: JobContext) -> str:
        attempts.append(context.attempt)
        if (verdict := said.pop(0)) is not None:
            raise verdict
        return "done"

    async with app.testing() as kit:
        job = await wait.enqueue(1)
        for _ in range(3):
            await kit.drain()
            await kit.travel("1m")
        assert await job.result() == "done"
        assert attempts == [1, 1, 1]


async def test_errors_of_one_kind_are_one_group() -> None:
    app = make_app()

    @app.job(max_retries=0)
    async def fail(number: int) -> None:
        if number == 9:
            raise KeyError(number)
        raise ValueError(f"no {number} of 'x{number}'")

    async with app.testing() as kit:
        await fail.enqueue_many([1, 22, 9, 333])
        await kit.drain()
        groups = await app.store.jobs.errors(name="fail", limit=9)
        assert sorted(each.jobs for each in groups) == [1, 3]


async def test_a_result_that_cannot_be_kept_fails_its_job() -> None:
    app = make_app()

    @app.job()
    async def give(number: int) -> Any:
        return object() if number else "x" * 1_000_001

    async with app.testing() as kit:
        jobs = await give.enqueue_many([0, 1])
        await kit.drain()
        assert [await each.state() for each in jobs] == [JobState.FAILED] * 2


async def test_a_result_has_its_time() -> None:
    app = make_app()

    @app.job(result_ttl="1h")
    async def give(number: int) -> int:
        return number

    async with app.testing() as kit:
        job = await give.enqueue(5)
        await kit.drain()
        assert await job.result() == 5
        await kit.travel("1h")
        with pytest.raises(JobResultExpiredError):
            await job.result()
        assert await job.state() is JobState.SUCCEEDED


async def test_waiting_ends_with_the_job_or_with_patience() -> None:
    app = make_app()

    @app.job()
    async def give(number: int) -> int:
        return number

    async with app.testing() as kit:
        job = await give.enqueue(5)
        waiting = [asyncio.create_task(job.result("10s")) for _ in range(3)]
        late = asyncio.create_task(job.result("1s"))
        await kit.clock.advance(2)
        with pytest.raises(JobTimeoutError):
            await late
        with pytest.raises(TimeoutError):
            await job.result(0)
        await kit.drain()
        await kit.clock.advance(1)
        assert await asyncio.gather(*waiting) == [5, 5, 5]


async def test_what_nobody_knows_is_not_found() -> None:
    app = make_app()

    @app.job()
    async def give(number: int) -> int:
        return number

    async with app.testing():
        job = app.jobs.get("0" * 32, give)
        for question in (job.state, job.info, job.result, job.cancel, job.retry, job.explain):
            with pytest.raises(JobNotFoundError):
                await question()
        with pytest.raises(JobNotFoundError):
            app.jobs.get("what")


async def test_one_that_waits_is_cancelled_at_once() -> None:
    app = make_app()

    @app.job()
    async def give(number: int) -> int:
        return number

    async with app.testing() as kit:
        job = await give.options(delay="1h").enqueue(1)
        assert await job.cancel() is JobState.CANCELLED
        with pytest.raises(JobCancelledError):
            await job.result()
        assert await kit.drain() == 0
        assert await job.explain() == "it was cancelled 2026-01-01 12:00:00 UTC"


async def test_what_has_ended_beats_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    begun: list[int] = []
    ends = {1: asyncio.Event(), 2: asyncio.Event()}

    @app.job()
    async def hold(number: int) -> None:
        begun.append(number)
        await ends[number].wait()

    async with app.testing() as kit:
        jobs, heard = kit.store.jobs, list[set[str]]()
        beat = jobs.beat

        async def listen(running: Sequence[JobRecord]) -> Sequence[MessageId]:
            heard.append({each.id.hex() for each in running})
            return await beat(running)

        monkeypatch.setattr(jobs, "beat", listen)
        one, two = await hold.enqueue(1), await hold.enqueue(2)
        draining = asyncio.create_task(kit.drain())
        for number in (1, 2):
            while number not in begun or len(heard) < 2:
                await kit.clock.advance(1)
            ends[number].set()
            if number == 1:
                assert any(one.id in each for each in heard)
                while 2 not in begun:
                    await kit.clock.advance(0.1)
                heard.clear()
        await draining
        assert all(one.id not in each for each in heard) and any(two.id in each for each in heard)


async def test_one_unique_key_has_one_job() -> None:
    app = make_app()

    @app.job(unique=lambda mail: mail.to, unique_for="10m")
    async def send(mail: Mail) -> None: ...

    @app.job(unique=lambda mail: mail.to)
    async def other(mail: Mail) -> None: ...

    async with app.testing() as kit:
        first = await send.enqueue(Mail("ann"))
        jobs = await asyncio.gather(*(send.enqueue(Mail("ann")) for _ in range(50)))
        assert {each.id for each in jobs} == {first.id}
        assert all(each.deduped for each in jobs) and not first.deduped
        assert not (await other.enqueue(Mail("ann"))).deduped
        with pytest.raises(JobExistsError):
            await send.options(on_conflict="raise").enqueue(Mail("ann"))
        newer = await send.options(on_conflict="replace").enqueue(Mail("ann"))
        assert [await first.state(), await newer.state()] == [JobState.CANCELLED, JobState.QUEUED]
        await kit.drain()
        assert (await send.enqueue(Mail("ann"))).id == newer.id
        await kit.travel("10m")
        assert not (await send.enqueue(Mail("ann"))).deduped


async def test_a_burst_is_debounced() -> None:
    app = make_app()
    done: list[str] = []

    @app.job(unique=lambda _mail: "inbox", on_conflict="replace")
    async def send(mail: Mail) -> None:
        done.append(mail.to)

    async with app.testing() as kit:
        for name in ("a", "b", "c"):
            await send.options(delay="5s").enqueue(Mail(name))
            await kit.travel("2s")
            await kit.drain()
        await kit.travel("5s")
        await kit.drain()
        assert done == ["c"]


async def test_what_has_not_begun_in_time_is_dead() -> None:
    app = make_app()

    @app.job(expires_in="1m")
    async def send(mail: Mail) -> None: ...

    async with app.testing() as kit:
        job = await send.enqueue(Mail("ann"))
        await kit.travel("2m")
        await kit.drain()
        assert await job.state() is JobState.DEAD
        assert "expired" in await job.explain()


async def test_an_unknown_job_is_put_off_for_a_quarter_of_an_hour() -> None:
    old, new = make_app(), make_app()

    @old.job()
    async def known(number: int) -> None: ...

    @new.job()
    async def unknown(number: int) -> None: ...

    async with old.testing() as kit:
        draft = unknown._draft(1)
        await kit.store.append([draft])
        job = old.jobs.get(draft.id.hex())
        for _ in range(2):
            began = kit.clock.now_ms() / 1000
            assert await kit.drain() == 1
            assert await job.state() is JobState.SCHEDULED
            assert "no job `unknown` is declared" in await job.explain()
            while (next_at := (await job.info()).next_at) is not None:
                await kit.travel(next_at.timestamp() - kit.clock.now_ms() / 1000)
                await kit.drain()
            info = await job.info()
            assert info.state is JobState.FAILED and info.ended_at is not None
            assert 880 < info.ended_at.timestamp() - began < 920
            await job.retry()  # and as long again


async def test_what_a_job_put_itself_off_does_not_count_where_nobody_knows_it() -> None:
    app = make_app()

    @app.job()
    async def known(number: int) -> None: ...

    async with app.testing() as kit:
        await known.enqueue(1)
        await kit.drain()
        runner = app.jobs._lines[known.queue]._runners["known"]
        lease = Lease(
            seq=1, claim=31, id=MessageId(bytes(16)), queue=known.queue, body=b"1", content_type=ContentType.JSON,
            sent_at=0, releases=30,
        )  # fmt: skip
        assert [runner.put_off(lease, "?", returns=each).action for each in (0, 19, 20)] == [
            Action.RELEASE, Action.RELEASE, Action.REJECT,
        ]  # fmt: skip
        assert [runner.put_off(lease, "?", returns=each).delay_ms for each in (0, 2, 19)] == [1_000, 4_000, 60_000]


@pytest.mark.parametrize("name", ["os.system", "antigravity", "antigravity:fly"])
async def test_a_name_in_a_message_is_looked_up_and_never_imported(name: str) -> None:
    """S01: code runs only where somebody has declared it as a job."""
    app = make_app()

    @app.job()
    async def known(number: int) -> None: ...

    async with app.testing() as kit:
        draft = known._draft(1)
        headers = msgspec.json.encode(msgspec.json.decode(draft.headers or b"{}") | {NAME_HEADER: name})
        await kit.store.append([msgspec.structs.replace(draft, headers=headers)])
        await kit.drain()
        job = app.jobs.get(draft.id.hex())
        assert await job.state() is JobState.SCHEDULED
        assert f"no job `{name}` is declared" in await job.explain()
    assert "antigravity" not in sys.modules


async def test_older_payloads_are_lifted_and_newer_ones_put_off() -> None:
    def add_country(old: dict[str, Any]) -> dict[str, Any]:
        return old | {"country": "DE"}

    @dataclass
    class Address:
        to: str
        country: str

    first, second, third = make_app(), make_app(), make_app()

    @first.job(name="ship")
    async def ship_first(parcel: Parcel) -> str:
        return parcel.to

    @second.job(name="ship", version=2, upcasts={1: add_country})
    async def ship(address: Address) -> str:
        return address.to + address.country

    @third.job(name="ship", version=3, upcasts={1: add_country, 2: add_country})
    async def ship_third(address: Address) -> str:
        return address.to

    async with second.testing() as kit:
        drafts = [
            ship_first._draft(Parcel("ann")),
            ship._draft(Address("bob", "FR")),
            ship_third._draft(Address("c", "d")),
        ]
        await kit.store.append(drafts)
        await kit.drain()
        lifted, same, newer = (second.jobs.get(each.id.hex(), ship) for each in drafts)
        assert [await lifted.result(), await same.result()] == ["annDE", "bobFR"]
        assert await newer.state() is JobState.SCHEDULED


def test_what_is_declared_wrongly_is_said_at_once() -> None:
    app = make_app()

    @app.job(queue="q")
    async def right(number: int) -> None: ...

    def declare(function: Any, **options: Any) -> None:
        with pytest.raises(InvalidError):
            app.job(**({"queue": "q", "name": "wrong"} | options))(function)

    async def two(number: int, other: int) -> None: ...

    async def none() -> None: ...

    async def generates(number: int) -> Any:
        yield number

    untyped: Any = lambda number: number  # noqa: E731  # a function that says nothing of its payload

    declare(right, name="right")
    for function in (two, none, generates, untyped):
        declare(function)
    for options in (
        {"max_retries": -1}, {"timeout": 0}, {"backoff": "soon"}, {"errors": {"ValueError": None}}, {"run_in": "loop2"},
        {"version": 2, "upcasts": {2: str}}, {"version": 3, "upcasts": {1: str}}, {"on_conflict": "perhaps"},
        {"queue": "no queue"}, {"name": "no name"}, {"run_in": "process"},
    ):  # fmt: skip
        declare(_plain, **options)


def _plain(number: int) -> None: ...


async def test_options_are_checked_when_they_are_said() -> None:
    app = make_app()

    @app.job()
    async def give(number: int) -> int:
        return number

    async with app.testing():
        with pytest.raises(InvalidError):
            give.options(headers={"job": "other"})
        with pytest.raises(InvalidError):
            await give.options(unique="x" * 300).enqueue(1)
        with pytest.raises(InvalidError):
            give.options(tx=object(), on_conflict="replace")
        with pytest.raises(InvalidError):
            await give.options(priority=10).enqueue(1)
        with pytest.raises(BodyTooLargeError):
            await give.options(headers={"x": "y" * 5_000}).enqueue(1)


async def test_a_queue_has_jobs_or_a_consumer() -> None:
    app = make_app()

    @app.job(queue="q")
    async def give(number: int) -> None: ...

    @app.consumer("q")
    async def take(message: Message[int]) -> None: ...

    with pytest.raises(InvalidSettingError, match="a consumer and jobs"):
        app.handlers()


async def test_a_queue_of_jobs_has_its_limits() -> None:
    app = make_app()
    app.job_queue("calls", max_concurrency=2, rate="50/m", dead_letter_queue="lost")
    with pytest.raises(InvalidSettingError):
        app.job_queue("calls")

    @app.job(queue="calls", timeout="1m", max_retries=7)
    async def call(number: int) -> None: ...

    async with app.testing() as kit:
        consumer = (await kit.store.get_queue("calls")).consumer
        assert consumer is not None and consumer.tracks_jobs
        assert (consumer.max_concurrency, consumer.dead_letter_queue, consumer.max_retries) == (2, "lost", 7)
