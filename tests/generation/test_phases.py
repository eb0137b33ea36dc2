"""The document's test lists, phase 1 and 2, in every mode of dispatch and on both stores.

The usual run has the first test in every mode, each other in some; `pytest tests/generation -m campaign` has the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor_apps.generation.records import Generation, State
from conveyor_apps.generation.settings import DispatchMode
from generation.stage import Stage, stage

pytestmark = pytest.mark.anyio

MODES = list(DispatchMode)
FIRST_WITHIN_S = {DispatchMode.IMMEDIATE: 0, DispatchMode.CRON: 60, DispatchMode.ALARM: 2, DispatchMode.QUEUE: 1}
"""Until the first job starts, as the document promises. The clock moves by whole seconds, and may go one too far while
something real is under way."""
SEQUENTIAL = (DispatchMode.CRON, DispatchMode.ALARM)
STORES = ["sqlite", "postgres"]


def each_mode(*usual: DispatchMode, workers: int = 4) -> pytest.MarkDecorator:
    """The test in all modes on both stores; in the usual run in these alone, on SQLite."""
    cases = [
        pytest.param(
            (mode, store, workers), id=f"{mode}-{store}",
            marks=() if mode in usual and store == "sqlite" else pytest.mark.campaign,
        )
        for mode in MODES
        for store in STORES
    ]  # fmt: skip
    return pytest.mark.parametrize("film", cases, indirect=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def film(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    mode, store, workers = request.param
    async with stage(tmp_path, mode=mode, store=store, environment={"GENERATION_WORKERS": str(workers)}) as playing:
        yield playing


def mode_of(film: Stage) -> DispatchMode:
    return film.room.settings.dispatch


def check_one(film: Stage, ended: Generation) -> None:
    """Made, told to Next.js in order and once, and its status and message there for people."""
    assert ended.state is State.COMPLETED, ended
    assert film.nextjs.names_of(ended.id) == ["generation.started", "generation.completed"]
    site = film.nextjs.site
    assert site.status[ended.id] == "completed"
    assert ended.result is not None
    assert [text for text in site.messages if ended.result.video_url in text]


def spans(made: list[Generation]) -> list[tuple[str, str]]:
    """From when to when each was worked on, by their start."""
    return sorted((each.started_at or "", each.ended_at or "") for each in made)


async def finish(film: Stage, made: list[Generation], *, events: int = 2) -> list[Generation]:
    ended = await film.run_until_final(made)
    await film.run_until_told(events * len(made))
    assert (film.nextjs.site.refused, film.nextjs.site.repeated) == (0, 0)
    return ended


@each_mode(*MODES)
async def test_phase_1_one_request_starts_ends_and_is_told(film: Stage) -> None:
    await film.run(5)
    made = await film.create()
    passed = await film.run_until(lambda: film.logged("Starting generation"), within=70)
    assert passed <= FIRST_WITHIN_S[mode_of(film)] + 1
    [ended] = await finish(film, [made])
    check_one(film, ended)
    assert ended.result is not None
    video = await film.made.app.bucket("GENERATION_STORAGE").get(ended.result.key)
    assert video is not None
    assert video.body[4:8] == b"ftyp", "the frontend is shown a real video"
    for action in ("Job added to queue", "Starting generation", "Submitted", "Uploading video", "Video uploaded",
                   "Generation completed", "Sending webhook"):  # fmt: skip
        assert film.logged(action), f"all steps are logged: {action}"


@each_mode(DispatchMode.IMMEDIATE, DispatchMode.QUEUE)
async def test_phase_1_three_requests_all_start_end_and_are_told(film: Stage) -> None:
    made = await film.create_many(3)
    ended = await finish(film, made)
    for each in ended:
        check_one(film, each)
    if mode_of(film) not in SEQUENTIAL:
        first_end = min(end for _, end in spans(ended))
        assert all(start < first_end for start, _ in spans(ended)), "all three are worked on side by side"
    assert len(await film.submissions()) == 3


@each_mode(DispatchMode.QUEUE)
async def test_phase_1_an_error_is_handled_and_told(film: Stage) -> None:
    made = await film.create("something #refused by the provider")
    [ended] = await finish(film, [made])
    assert (ended.state, ended.attempt) == (State.FAILED, 1)
    assert ended.error is not None
    assert ended.error.is_permanent
    assert film.nextjs.names_of(ended.id) == ["generation.started", "generation.failed"]
    [told] = [each.event for each in film.nextjs.events if each.event.status == "failed"]
    assert told.error == ended.error.message
    assert [each["level"] for each in film.logged("Generation failed")] == ["ERROR"]
    assert (await film.room.desk.status()).failure_rate == 1.0


@each_mode(DispatchMode.ALARM, DispatchMode.QUEUE, workers=1)
async def test_phase_2_five_jobs_in_their_order(film: Stage) -> None:
    made = await film.create_many(5)
    ended = await finish(film, made)
    assert {each.state for each in ended} == {State.COMPLETED}
    started = [each["generationId"] for each in film.logged("Starting generation")]
    assert sorted(started) == sorted(each.id for each in made), "none is skipped"
    if mode_of(film) is not DispatchMode.IMMEDIATE:  # which promises no order
        assert started == [each.id for each in made], "FIFO"
    if mode_of(film) in SEQUENTIAL:
        order = spans(ended)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(order)), "one after another"


@each_mode(DispatchMode.IMMEDIATE, DispatchMode.ALARM)
async def test_phase_2_a_failure_is_tried_again(film: Stage) -> None:
    await film.faults("omni", endpoint="submit", error_every=1, error_status=503)
    made = await film.create()
    await film.run_until(lambda: film.logged("Generation failed"), within=120)
    assert (await film.get(made.id)).state is State.RETRYING
    await film.faults("omni")
    [ended] = await finish(film, [made])
    check_one(film, ended)
    assert ended.attempt == 2
    assert (await film.room.desk.status()).retry_rate == 1.0


@each_mode(DispatchMode.QUEUE)
async def test_phase_2_a_failure_that_stays_is_told(film: Stage) -> None:
    made = await film.create("this one #fails each time")
    [ended] = await finish(film, [made])
    assert (ended.state, ended.attempt) == (State.FAILED, 3)
    assert film.nextjs.names_of(ended.id) == ["generation.started", "generation.failed"]
    assert len(await film.submissions()) == 3, "three tries"


@each_mode()
async def test_phase_2_ten_jobs_do_not_overload_the_provider(film: Stage) -> None:
    await film.faults("omni", submissions_per_minute=4)
    made = await film.create_many(10)
    ended = await finish(film, made)
    assert {each.state for each in ended} == {State.COMPLETED}
    assert {each.attempt for each in ended} == {1}, "a limit costs no try"
    taken = [each for each in await film.submissions() if each["operation"]]
    assert len(taken) == 10
