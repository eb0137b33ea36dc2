"""The workflow: each order at a provider is sent once, what was begun is taken on, and its end is told."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from conveyor_apps.generation.errors import RefusedError
from conveyor_apps.generation.records import Failure, ProviderName, State, VideoResult, video_key
from conveyor_apps.generation.settings import BUCKET
from generation.stage import Stage, stage, work_on

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def client_ids(film: Stage) -> list[str]:
    return [str(each["client_id"]) for each in await film.submissions()]


async def test_the_looks_are_five_seconds_apart_and_end_after_300(tmp_path: Path) -> None:
    async with stage(tmp_path) as film:
        made = await film.create("this one #stalls")
        [ended] = await film.run_until_final([made], within=330)
        assert ended.error is not None
        assert (ended.state, ended.error.code, ended.error.is_permanent) == (State.FAILED, "timeout", True)
        looks = [0, *(each["duration"] for each in film.logged("Still running"))]
        assert all(4_000 <= later - former <= 7_000 for former, later in itertools.pairwise(looks))
        assert looks[-1] >= 300_000, "the last one is had when the time is over"
        assert await client_ids(film) == [f"{made.id}-1"]


async def test_who_goes_on_after_a_crash_looks_on_and_submits_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False, generation_s=30) as film:
        made = await film.create()
        for seconds in (1, 6, 9):
            worker = asyncio.create_task(work_on(film.made))
            await film.run(seconds)
            worker.cancel()
            await asyncio.wait([worker])
        worker = asyncio.create_task(work_on(film.made))
        try:
            [ended] = await film.run_until_final([made], within=60)
        finally:
            worker.cancel()
            await asyncio.wait([worker])
        assert (ended.state, ended.attempt) == (State.COMPLETED, 1)
        assert await client_ids(film) == [f"{made.id}-1"]


@pytest.mark.parametrize("mode", ["queue", "alarm"])
async def test_an_order_in_doubt_is_not_sent_again(tmp_path: Path, mode: str) -> None:
    """Somebody was killed after it had begun to submit, and before it could write down an answer."""
    async with stage(tmp_path, mode=mode, works=False) as film:
        made = await film.create()
        assert await film.room.ledger.begin_submission(made.id, 1)
        worker = asyncio.create_task(work_on(film.made))
        try:
            [ended] = await film.run_until_final([made], within=30)
            await film.run_until_told(2)
        finally:
            worker.cancel()
            await asyncio.wait([worker])
        assert ended.error is not None
        assert (ended.state, ended.error.code) == (State.FAILED, "submission_in_doubt")
        assert await film.submissions() == []
        assert film.nextjs.names_of(made.id)[-1] == "generation.failed"


async def test_a_worker_that_is_told_to_end_waits_for_the_answer_under_way(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False) as film:
        await film.faults("omni", endpoint="submit", latency_ms=300)
        made = await film.create()
        worker = asyncio.create_task(work_on(film.made))
        while not film.logged("Submitting"):
            await film.clock.settle()
            await asyncio.sleep(0.005)
        worker.cancel()
        await asyncio.wait([worker])
        assert (await film.room.ledger.submission(made.id)).state == "taken"
        worker = asyncio.create_task(work_on(film.made))
        try:
            [ended] = await film.run_until_final([made], within=60)
        finally:
            worker.cancel()
            await asyncio.wait([worker])
        assert ended.state is State.COMPLETED
        assert await client_ids(film) == [f"{made.id}-1"]


@pytest.mark.parametrize("provider", list(ProviderName))
async def test_every_provider_makes_videos(tmp_path: Path, provider: ProviderName) -> None:
    async with stage(tmp_path) as film:
        made = await film.create(provider=provider)
        [ended] = await film.run_until_final([made], within=60)
        assert (ended.state, ended.provider) == (State.COMPLETED, provider)
        assert ended.operation


async def test_an_unsafe_prompt_fails_at_once_for_good(tmp_path: Path) -> None:
    async with stage(tmp_path) as film:
        made = await film.create("something #unsafe")
        [ended] = await film.run_until_final([made], within=60)
        assert ended.error is not None
        assert (ended.state, ended.attempt, ended.error.code) == (State.FAILED, 1, "safety")


async def test_vips_go_first(tmp_path: Path) -> None:
    async with stage(tmp_path, mode="alarm", works=False) as film:
        usual = await film.create_many(2)
        vip = await film.create(priority=8)
        assert [await film.room.desk.position(each.id) for each in (vip, *usual)] == [1, 2, 3]
        worker = asyncio.create_task(work_on(film.made))
        try:
            await film.run_until_final([vip, *usual])
        finally:
            worker.cancel()
            await asyncio.wait([worker])
        started = [each["generationId"] for each in film.logged("Starting generation")]
        assert started == [vip.id, *(each.id for each in usual)]


async def test_cancelling_ends_what_waits_and_what_runs(tmp_path: Path) -> None:
    async with stage(tmp_path, mode="alarm") as film:
        running, waiting = await film.create_many(2)
        await film.run(4)
        for each in (waiting, running):
            assert (await film.room.desk.cancel(each.id)).state is State.CANCELLED
            await film.room.desk.cancel(each.id)  # twice is once
        after = await film.create("another one")
        [ended] = await film.run_until_final([after])
        assert ended.state is State.COMPLETED, "the place is free again"
        assert await film.states([running.id, waiting.id]) == [State.CANCELLED] * 2
        assert await client_ids(film) == [f"{running.id}-1", f"{after.id}-1"]
        await film.run_until_told(5)
        assert film.nextjs.names_of(running.id) == ["generation.started", "generation.cancelled"]
        assert film.nextjs.names_of(waiting.id) == ["generation.cancelled"]
        with pytest.raises(RefusedError, match="completed"):
            await film.room.desk.cancel(after.id)


async def test_one_idempotency_key_makes_one_generation(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False) as film:
        first = await film.create("a boat", key="k1")
        assert (await film.create("a boat", key="k1")).id == first.id
        assert (await film.create("a boat", key="k1", user="bob")).id != first.id
        with pytest.raises(RefusedError, match="another request"):
            await film.create("a ship", key="k1")
        assert len(await film.room.desk.list()) == 2


async def test_what_a_crash_left_unsent_is_sent_by_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path) as film:
        with monkeypatch.context() as patch, pytest.raises(ConnectionError):
            patch.setattr(film.room.desk, "_send", refuse)
            await film.create()
        [made] = await film.room.desk.list()
        assert (made.state, made.job_id) == (State.QUEUED, "")
        [ended] = await film.run_until_final([made], within=180)
        assert ended.state is State.COMPLETED


async def test_what_a_crash_left_untold_is_told_by_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, even where it had been handed and that was not written down."""
    async with stage(tmp_path) as film:
        made = await film.create()
        with monkeypatch.context() as patch:
            patch.setattr(film.room.ledger, "hand", refuse)
            await film.run_until(lambda: film.nextjs.names_of(made.id), within=30)
        [ended] = await film.run_until_final([made], within=240)
        await film.run_until_told(2)
        await film.run(120)
        assert ended.state is State.COMPLETED
        assert film.nextjs.names_of(made.id) == ["generation.started", "generation.completed"]
        assert film.nextjs.site.repeated == 0
        assert all(each.handed_at for each in await film.room.ledger.events(made.id))


async def test_a_job_that_dies_without_a_word_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path) as film:
        monkeypatch.setattr(film.room.workflow, "_make", refuse)
        made = await film.create()
        [ended] = await film.run_until_final([made], within=120)
        await film.run_until_told(2)
        assert ended.error is not None
        assert (ended.state, ended.error.code) == (State.FAILED, "retries")
        assert film.nextjs.names_of(made.id) == ["generation.started", "generation.failed"]


async def test_what_is_over_goes_with_its_video_and_its_events(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False, environment={"GENERATION_KEEP": "1h"}) as film:
        done, bad, untold = await film.create(key="k"), await film.create(), await film.create()
        bucket, ledger, clear = film.made.app.bucket(BUCKET), film.room.ledger, film.room.keeper.clear
        await bucket.put("videos/done.mp4", b"film")
        await bucket.put(video_key(bad.id), b"film")  # stored, and then its worker died for the third time
        result = VideoResult(
            video_url="", key="videos/done.mp4", size=4, content_type="video/mp4", duration=8, processing_time=1
        )
        await ledger.complete(done.id, result)
        for each in (bad, untold):
            await ledger.fail(each.id, Failure(code="safety", message="no"), turn=0)
        for each in (done, bad):
            assert await film.room.relay.hand(each.id)
        assert await clear() == 0, "not yet"
        await film.clock.advance(3_700)
        recent = await film.create()
        assert await clear() == 2
        assert [each.id for each in await film.room.desk.list()] == [recent.id, untold.id]
        assert await bucket.head("videos/done.mp4") is await bucket.head(video_key(bad.id)) is None
        assert await ledger.events(done.id) == []
        assert film.logged("Removed what is over")[0]["generations"] == 2
        assert (await film.create(key="k")).id != done.id
        await film.room.relay.hand(untold.id)
        assert await clear() == 1


async def refuse(*_given: object, **_named: object) -> None:
    raise ConnectionError("gone")
