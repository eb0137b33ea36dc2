"""What follows an error: by class, by policy, in groups."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor import Backoff, Conveyor, JobState
from kit.programs import until_state, working

pytestmark = pytest.mark.anyio


class CardRefusedError(ValueError):
    """Permanent."""


async def test_permanent_errors_dead_letter_at_once_and_others_are_tried_again(app: Conveyor) -> None:
    tried: list[str] = []

    @app.job(
        max_retries=2, backoff="1h", errors={CardRefusedError: None, OSError: "0.05s", LookupError: Backoff.fixed(0)}
    )
    async def pay(what: str) -> None:
        tried.append(what)
        errors: dict[str, type[Exception]] = {"card": CardRefusedError, "net": ConnectionResetError, "key": KeyError}
        raise errors.get(what, ValueError)(what)

    async with working(app):
        card, net, key, other = [await pay.enqueue(each) for each in ("card", "net", "key", "other")]
        await until_state(card, JobState.FAILED)
        await until_state(net, JobState.DEAD)
        await until_state(key, JobState.DEAD)
        await until_state(other, JobState.RETRYING)
        assert [tried.count(each) for each in ("card", "net", "key", "other")] == [1, 3, 3, 1]
        assert (await card.info()).attempts == 1
        assert len(await app.jobs.list(state="failed")) == 1
        assert {each.id for each in await app.jobs.list(state=["failed", "dead"], name="pay")} == {
            card.id,
            net.id,
            key.id,
        }


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (None, []),
        ("5s", [5, 5]),
        (Backoff.fixed("1m"), [60, 60]),
        (lambda attempt, _error: f"{2**attempt}m", [120, 240]),
        (lambda attempt, _error: None if attempt == 2 else 7, [7]),
        (Backoff(base_ms=1_000, factor=3.0), [1, 3]),
    ],
)
async def test_policies(backoff: Any, expected: list[int]) -> None:
    app = Conveyor("shop", url="memory://")

    @app.job(max_retries=2, backoff=backoff)
    async def fail(number: int) -> None:
        raise ValueError

    async with app.testing() as kit:
        job = await fail.enqueue(1)
        waits = []
        await kit.drain()
        while (info := await job.info()).next_at is not None:
            waits.append(round(info.next_at.timestamp() - kit.clock.now_ms() / 1000))
            await kit.travel(waits[-1])
            await kit.drain()
        assert waits == expected


async def test_full_jitter_draws_from_nothing_to_the_whole_delay() -> None:
    app = Conveyor("shop", url="memory://")

    @app.job(max_retries=1, backoff=Backoff.exponential("100s"))
    async def fail(number: int) -> None:
        raise ValueError

    async with app.testing() as kit:
        jobs = await fail.enqueue_many(range(200))
        await kit.drain()
        now = kit.clock.now_ms() / 1000
        waits = [(each.next_at.timestamp() - now) if each.next_at else 0 for each in [await job.info() for job in jobs]]
        assert min(waits) < 10 and max(waits) > 90 and 40 < sum(waits) / len(waits) < 60


async def test_errors_of_one_kind_are_one_group(app: Conveyor) -> None:
    @app.job(max_retries=0)
    async def load(number: int) -> None:
        if number % 3 == 0:
            raise KeyError(f"order {number}")
        raise ConnectionError(f"host 10.0.0.{number} refused '{number}'")

    async with working(app):
        for job in await load.enqueue_many(range(9)):
            await until_state(job, JobState.DEAD)
        groups = await app.jobs.errors(name="load")
        assert [each.jobs for each in groups] == [6, 3]
        assert groups[0].error.startswith("ConnectionError") and groups[1].error.startswith("KeyError")
        assert len(await app.jobs.list(error=groups[1].fingerprint)) == 3
