"""An end is told once, whoever dies between it and the end of its job; what is tried again by hand is told anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conveyor import DeadLetterAlert, JobState
from conveyor_apps.generation.records import IN_DOUBT, Failure, Generation, State, SubmissionState
from generation.stage import Stage, stage, work_on

pytestmark = pytest.mark.anyio

STARTED, COMPLETED, FAILED, CANCELLED = (
    f"generation.{each}" for each in ("started", "completed", "failed", "cancelled")
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def working(film: Stage) -> AsyncIterator[None]:
    """A worker, until the block ends: what it has then is delivered again."""
    worker = asyncio.create_task(work_on(film.made))
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.wait([worker])


async def end_worker_in(
    film: Stage, made: list[Generation], states: set[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ends when all are in one of these states, and the job of none has ended."""
    reached, hand = set(), film.room.workflow._hand

    async def stall(id: str) -> bool:
        if (await film.get(id)).state in states:
            reached.add(id)
            await asyncio.Event().wait()
        return await hand(id)

    with monkeypatch.context() as patch:
        patch.setattr(film.room.workflow, "_hand", stall)
        async with working(film):
            await film.run_until(lambda: len(reached) == len(made), within=60)


async def job_state(film: Stage, id: str) -> JobState:
    return await film.made.app.jobs.get((await film.get(id)).job_id).state()


async def run_until_jobs_end(film: Stage, made: list[Generation]) -> list[JobState]:
    async def have_ended() -> bool:
        states = [await job_state(film, each.id) for each in made]
        return set(states) <= {JobState.SUCCEEDED, JobState.FAILED, JobState.DEAD, JobState.CANCELLED}

    await film.run_until(have_ended, within=60)
    return [await job_state(film, each.id) for each in made]


async def told(film: Stage, id: str) -> list[str]:
    return [each.event for each in await film.room.ledger.events(id)]


async def test_a_job_delivered_again_ends_as_its_generation_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died after the end was written, and before the job's was."""
    async with stage(tmp_path, works=False, environment={"GENERATION_TRIES": "1"}) as film:
        good, refused, doubtful, fails = made = [
            await film.create(prompt) for prompt in ("a boat", "#refused", "a ship", "it #fails")
        ]
        await film.room.ledger.begin_submission(doubtful.id, 1)
        await end_worker_in(film, made, {State.COMPLETED, State.FAILED}, monkeypatch)
        before = await film.room.ledger.events(doubtful.id)
        assert {await job_state(film, each.id) for each in made} == {JobState.QUEUED}, "given back, at no attempt"
        async with working(film):
            assert await run_until_jobs_end(film, made) == [JobState.SUCCEEDED] + [JobState.FAILED] * 3
            await film.run_until_told(8)
        for each in made:
            assert await told(film, each.id) == [STARTED, COMPLETED if each is good else FAILED]
        assert [each.id for each in await film.room.ledger.events(doubtful.id)] == [each.id for each in before]
        assert len(await film.submissions()) == 3, "and nothing is submitted again"
        result = await film.made.app.jobs.get((await film.get(good.id)).job_id).result(timeout=1)
        ended = await film.get(good.id)
        assert ended.result is not None
        assert result["key"] == ended.result.key
        info = await film.made.app.jobs.get((await film.get(refused.id)).job_id).info()
        why = (await film.get(refused.id)).error
        assert why is not None
        assert why.message in (info.error or ""), "the job says why as well"
        assert (await film.get(fails.id)).attempt == 1


async def test_a_job_delivered_again_after_its_generation_was_cancelled_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that was asked died before it had told the job."""
    async with stage(tmp_path, generation_s=30) as film:
        made = await film.create()
        await film.run_until(lambda: film.logged("Submitted"), within=10)
        with monkeypatch.context() as patch, pytest.raises(ConnectionError):
            patch.setattr(film.room.desk, "_withdraw", refuse)
            await film.room.desk.cancel(made.id)
        assert await run_until_jobs_end(film, [made]) == [JobState.CANCELLED]
        await film.run_until_told(2)
        assert await told(film, made.id) == [STARTED, CANCELLED]
        assert not film.logged("Uploading video")


async def test_a_retry_is_counted_once_though_its_worker_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, works=False) as film:
        await film.faults("omni", endpoint="submit", error_every=1, error_status=503)
        made = await film.create()
        await end_worker_in(film, [made], {State.RETRYING}, monkeypatch)
        await film.faults("omni")
        async with working(film):
            [ended] = await film.run_until_final([made], within=60)
            await film.run_until_told(2)
        assert ended.state is State.COMPLETED
        assert await told(film, made.id) == [STARTED, COMPLETED]
        assert (await film.room.desk.status()).retry_rate == 1.0


async def test_tried_again_by_hand_it_begins_again_and_is_told_anew(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False) as film:
        refused, doubtful = await film.create("#refused"), await film.create("a ship")
        await film.room.ledger.begin_submission(doubtful.id, 1)
        async with working(film):
            assert await run_until_jobs_end(film, [refused, doubtful]) == [JobState.FAILED] * 2
            first = await film.get(doubtful.id)
            assert first.error is not None
            assert first.error.code == IN_DOUBT
            for each in (refused, doubtful):
                await film.made.app.jobs.get((await film.get(each.id)).job_id).retry()
            states = await run_until_jobs_end(film, [refused, doubtful])
            await film.run_until_told(8)
        assert states == [JobState.FAILED, JobState.SUCCEEDED]
        assert film.nextjs.names_of(refused.id) == [STARTED, FAILED] * 2
        assert film.nextjs.names_of(doubtful.id) == [STARTED, FAILED, STARTED, COMPLETED]
        assert film.nextjs.site.repeated == 0
        orders = [str(each["client_id"]) for each in await film.submissions()]
        assert orders.count(f"{doubtful.id}-2") == 1, "who has seen the doubt and tries again wants another order"
        assert [each for each in orders if each.startswith(refused.id)] == [f"{refused.id}-1", f"{refused.id}-2"]


async def test_only_the_turn_that_has_it_fails_it(tmp_path: Path) -> None:
    """A worker that was stopped, and lost the job, goes on after its successor has begun."""
    async with stage(tmp_path, works=False) as film:
        made, ledger, failure = await film.create(), film.room.ledger, Failure(code="x", message="no")
        stale = await ledger.start(made.id, run=0, attempt=1, job_id="j")
        present = await ledger.start(made.id, run=0, attempt=1, job_id="j")
        assert stale is not None
        assert present is not None
        assert (stale.is_new, present.is_new) == (True, False)
        assert not await ledger.retry(made.id, failure, turn=stale.number)
        assert not await ledger.fail(made.id, failure, turn=stale.number)
        assert (await film.get(made.id)).state is State.PROCESSING
        assert await ledger.fail(made.id, failure, turn=present.number)
        assert not await ledger.fail(made.id, failure, turn=present.number)
        after_a_crash = await ledger.start(made.id, run=0, attempt=2, job_id="j")
        assert after_a_crash is not None
        assert after_a_crash.generation.state is State.FAILED, "a second delivery is no second try"
        by_hand = await ledger.start(made.id, run=1, attempt=1, job_id="j")
        assert by_hand is not None
        assert (by_hand.is_new, by_hand.generation.state, by_hand.generation.error) == (True, State.PROCESSING, None)
        assert await told(film, made.id) == [STARTED, FAILED, STARTED]
        await ledger.cancel(made.id)
        assert not await ledger.begin_submission(made.id, 1), "nothing is submitted for what was cancelled meanwhile"
        await check_alerts(film)


def an_alert(headers: dict[str, Any]) -> DeadLetterAlert:
    return DeadLetterAlert(
        queue="generations", message_id="ab" * 16, reason="crashes", attempts=3, dead_at=0, headers=headers
    )


async def check_alerts(film: Stage) -> None:
    """One fails what died, and not what was tried again by then."""
    rescue, ledger = film.room.rescue, film.room.ledger
    died, again = await film.create("a boat"), await film.create("a ship")
    for each, runs in ((died, 1), (again, 2)):
        for run in range(runs):
            await ledger.start(each.id, run=run, attempt=1, job_id=(await film.get(each.id)).job_id)
    for each in (died, again):
        alert = an_alert({"generation": each.id})
        await rescue.hear(alert)
        await rescue.hear(alert)  # its worker died before it was settled
    assert await film.states([died.id, again.id]) == [State.FAILED, State.PROCESSING]
    assert await told(film, died.id) == [STARTED, FAILED]
    assert await told(film, again.id) == [STARTED]
    newer = {"generation": again.id, "conveyor-redrives": 1}
    await rescue.hear(an_alert(newer))
    assert await told(film, again.id) == [STARTED, FAILED]
    assert await ledger.unhanded(died.id) == []


async def test_a_job_that_ended_behind_its_generations_back_is_told_by_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled by an operator; dead, and the alert lost; purged."""
    async with stage(tmp_path, works=False) as film:
        app, sweep = film.made.app, film.room.rescue.sweep
        monkeypatch.setattr(film.room.workflow, "_make", refuse)
        monkeypatch.setattr(film.room.rescue, "hear", refuse)
        died = await film.create("a boat")
        async with working(film):
            [state] = await run_until_jobs_end(film, [died])
        assert state is JobState.DEAD
        cancelled, purged = await film.create("a ship"), await film.create("a raft")
        await app.jobs.get((await film.get(cancelled.id)).job_id).cancel()
        await sweep()
        assert await film.states([cancelled.id, purged.id]) == [State.QUEUED] * 2, "not before a while has passed"
        await film.clock.advance(40)
        await sweep()
        assert await film.states([died.id, cancelled.id, purged.id]) == [State.FAILED, State.CANCELLED, State.QUEUED]
        await app.store.purge("generation-queue")
        await sweep()
        await sweep()
        assert await told(film, died.id) == [STARTED, FAILED]
        assert await told(film, cancelled.id) == await told(film, purged.id) == [CANCELLED]
        assert (await film.room.ledger.submission(died.id)).state is not SubmissionState.BEGUN


async def refuse(*_given: object, **_named: object) -> None:
    raise ConnectionError("gone")
