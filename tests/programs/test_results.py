"""Results: typed, kept for a time, refused where they cannot be kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pydantic
import pytest

from conveyor import Conveyor, JobFailedError, JobResultExpiredError, JobState, JobTimeoutError
from kit.programs import until, working

pytestmark = pytest.mark.anyio


class Parcel(msgspec.Struct):
    to: str


class Letter(pydantic.BaseModel):
    to: str
    weight: int = 1


async def test_a_result_has_its_time(app: Conveyor) -> None:
    @app.job(result_ttl="2s")
    async def give(number: int) -> int:
        return number

    async with working(app):
        job = await give.enqueue(5)

        async def is_over() -> bool:
            try:
                assert await job.result(60) == 5
            except JobResultExpiredError:
                return True
            return False

        await until(is_over)
        assert await job.state() is JobState.SUCCEEDED


async def test_patience_ends(app: Conveyor) -> None:
    @app.job()
    async def give(number: int) -> int:
        return number

    async with app:
        job = await give.enqueue(5)
        with pytest.raises(JobTimeoutError):
            await job.result(timeout=0.1)
        with pytest.raises(TimeoutError):
            await job.result("0.1s")


async def test_payloads_and_results_are_what_was_declared(app: Conveyor) -> None:
    @app.job()
    async def post(parcel: Parcel) -> Letter:
        return Letter(to=parcel.to, weight=7)

    @app.job()
    def weigh(letter: Letter) -> dict[str, int]:
        return {letter.to: letter.weight}

    @app.job()
    async def bad(number: int) -> Any:
        return object()

    async with working(app):
        letter = await (await post.enqueue(Parcel("ann"))).result(60)
        assert letter == Letter(to="ann", weight=7)
        assert await (await weigh.enqueue(letter)).result(60) == {"ann": 7}
        refused = await bad.enqueue(1)
        with pytest.raises(JobFailedError):
            await refused.result(60)
        assert await refused.state() is JobState.FAILED
        again = app.jobs.get(refused.id, bad)
        assert await again.state() is JobState.FAILED
