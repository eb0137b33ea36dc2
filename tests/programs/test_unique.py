"""Fifty clients want the one job of a key: one wins, and all know which."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, JobExistsError, JobState
from kit.fleet import Fleet
from kit.programs import working

pytestmark = pytest.mark.anyio

CLIENT = """
import asyncio, sys, time
from conveyor import Conveyor

app = Conveyor("shop")

@app.job(unique=str)
async def report(number: int) -> None: ...

async def main():
    async with app:
        while time.time() < {start}:
            await asyncio.sleep(0.001)
        jobs = await asyncio.gather(*(report.enqueue(7) for _ in range({each})))
        print(*(f"{{job.id}}:{{int(job.deduped)}}" for job in jobs), file=open(sys.argv[0] + ".out", "w"))

asyncio.run(main())
"""


async def test_of_fifty_coroutines_one_wins(app: Conveyor) -> None:
    @app.job(unique=str)
    async def report(number: int) -> None: ...

    async with app:
        jobs = await asyncio.gather(*(report.enqueue(7) for _ in range(50)))
        assert len({each.id for each in jobs}) == 1
        assert sorted(each.deduped for each in jobs) == [False] + [True] * 49
        raised = await asyncio.gather(
            *(report.options(on_conflict="raise").enqueue(8) for _ in range(50)), return_exceptions=True
        )
        assert sum(isinstance(each, JobExistsError) for each in raised) == 49
        replaced = await asyncio.gather(*(report.options(on_conflict="replace").enqueue(9) for _ in range(50)))
        states = [await each.state() for each in replaced]
        assert states.count(JobState.QUEUED) == 1 and states.count(JobState.CANCELLED) == 49


async def test_a_key_is_free_again_when_its_job_is_final(app: Conveyor) -> None:
    @app.job(unique=str)
    async def report(number: int) -> int:
        return number

    async with working(app):
        first = await report.enqueue(7)
        await first.result(60)
        second = await report.enqueue(7)
        assert not second.deduped and second.id != first.id
        await second.result(60)


def race(fleet: Fleet, *, processes: int, each: int, head_s: float) -> list[str]:
    import time

    start = time.time() + head_s
    code = CLIENT.format(start=start, each=each)
    clients = [fleet.start(f"client{number}", code) for number in range(processes)]
    assert [client.wait(60) for client in clients] == [0] * processes
    return [
        word for number in range(processes) for word in (fleet.folder / f"client{number}.py.out").read_text().split()
    ]


def test_of_fifty_clients_in_five_processes_one_wins(fleet: Fleet) -> None:
    answers = race(fleet, processes=5, each=10, head_s=3.0)
    assert len(answers) == 50
    assert len({each.split(":")[0] for each in answers}) == 1
    assert sum(each.endswith(":0") for each in answers) == 1


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_of_fifty_processes_one_wins(fleet: Fleet) -> None:
    answers = race(fleet, processes=50, each=1, head_s=30.0)
    assert len({each.split(":")[0] for each in answers}) == 1
    assert sum(each.endswith(":0") for each in answers) == 1
