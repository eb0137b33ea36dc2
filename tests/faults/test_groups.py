"""Groups whose workers, and starters, are killed with SIGKILL: every member is counted once, and the group's end is told
of once, whatever happens to whom."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any, Final

import pytest

from conveyor.model.group import ENDED, GroupState, MemberState
from conveyor.model.job import JobState
from conveyor.store.groups import Group
from conveyor.store.jobs import JobsAsked
from conveyor.store.protocol import Store
from kit.campaign import KILLS, SEED, Report
from kit.fleet import Fleet

PROCESSES: Final = 3
FAILS: Final = 33
"""One member in so many fails for good: 3 %."""
APP: Final = """
from conveyor import GroupResult

@app.job(queue="work", errors={ValueError: None}, backoff="50ms")
async def work(n: int) -> int:
    await asyncio.sleep(0.02)
    if n % 33 == 7:
        raise ValueError("as it was told to")
    return n

@app.consumer("mail", max_retries=3, retry_delay="50ms")
async def mail(message: Message[int]) -> None:
    await asyncio.sleep(0.02)

@app.job(queue="reports")
async def report(result: GroupResult) -> dict[str, int]:
    return {"succeeded": result.succeeded, "failed": result.failed, "cancelled": result.cancelled}
"""
START: Final = """
from shop import *
async def main():
    async with app:
        group = app.group("nightly", on_complete=report, deadline="10m")
        group.add_many(work, range({jobs}))
        for n in range({messages}):
            group.send("mail", n)
        print((await group.start()).id)
asyncio.run(main())
"""


def groups_of(fleet: Fleet) -> list[Group]:
    async def looking(store: Store) -> list[Group]:
        return await store.groups.look(limit=1_000)

    return fleet.ask(looking)


def kill_until_all_have_ended(fleet: Fleet, *, kills: int, seconds: float) -> int:
    """Workers, one after the other, as long as there are groups to count; how many were killed."""
    chance, killed, deadline = random.Random(SEED), 0, time.monotonic() + seconds
    tree = fleet.work("--processes", str(PROCESSES), "--concurrency", "10")
    while not (groups := groups_of(fleet)) or not all(each.state in ENDED for each in groups):
        assert time.monotonic() < deadline, (groups, fleet.log()[-4_000:])
        fleet.rest(chance.uniform(0.1, 0.4))
        workers = fleet.workers(tree)
        if killed < kills and len(workers) == PROCESSES:
            fleet.kill(chance.choice(workers))
            killed += 1
    fleet.wait_until_empty("reports")
    return killed


async def _judge(store: Store, group: Group) -> dict[str, Any]:
    """What the group has counted, and what there is to be counted."""
    states: dict[MemberState, int] = {}
    after = -1
    while page := await store.groups.members(group.id, limit=1_000, after=after):
        for each in page:
            states[each.state] = states.get(each.state, 0) + 1
        after = page[-1].place
    return {state.value: count for state, count in states.items()}


async def _reports(store: Store) -> list[tuple[JobState, bytes | None]]:
    now = store.clock.now_ms()
    page = await store.jobs.look(JobsAsked(name="report", limit=1_000))
    return [(each.state(now), each.record.result if each.record else None) for each in page.jobs]


@pytest.mark.parametrize(
    ("members", "kills"),
    [
        pytest.param(200, 2, id="ci"),
        pytest.param(
            1_000 * max(1, KILLS // 4), KILLS, id="campaign", marks=[pytest.mark.campaign, pytest.mark.timeout(3_600)]
        ),
    ],
)
def test_groups_are_counted_while_workers_are_killed(fleet: Fleet, report: Report, members: int, kills: int) -> None:
    fleet.write_app(APP)
    jobs = members * 4 // 5
    fleet.run(START.format(jobs=jobs, messages=members - jobs))
    began = time.monotonic()
    killed = kill_until_all_have_ended(fleet, kills=kills, seconds=1_800)
    [group] = groups_of(fleet)
    dead = len(fleet.placed("work-dlq")) + len(fleet.placed("mail-dlq"))
    failing = len([n for n in range(jobs) if n % FAILS == 7])
    found = fleet.ask(lambda store: _judge(store, group))
    reports = fleet.ask(_reports)
    report("groups", None, members=members, kills=killed, failed=group.failed, seconds=time.monotonic() - began)
    assert killed >= 1
    assert (group.state, group.total, group.cancelled) == (GroupState.FAILED, members, 0)
    assert group.succeeded + group.failed == members
    assert group.failed == dead, "who failed is a dead letter, and nobody else"
    assert failing <= group.failed <= failing + max(1, kills // 20), "a few were alone in three dying workers"
    assert found == {"succeeded": group.succeeded, "failed": group.failed}
    told = b'{"succeeded":%d,"failed":%d,"cancelled":0}' % (group.succeeded, group.failed)
    assert reports == [(JobState.SUCCEEDED, told)]


def _has_more(fleet: Fleet, known: int) -> bool:
    return len(groups_of(fleet)) > known


@pytest.mark.parametrize(
    ("members", "starters"),
    [
        pytest.param(2_500, 2, id="ci"),
        pytest.param(10_000, KILLS, id="campaign", marks=[pytest.mark.campaign, pytest.mark.timeout(3_600)]),
    ],
)
def test_a_start_that_is_killed_is_whole_or_nothing(fleet: Fleet, report: Report, members: int, starters: int) -> None:
    fleet.write_app(APP)
    fleet.run("from shop import *\nasync def main():\n    async with app: pass\nasyncio.run(main())")
    chance = random.Random(SEED)
    for number in range(starters):
        known = len(groups_of(fleet))
        starter = fleet.start(f"start{number}", START.format(jobs=0, messages=members))
        fleet.wait_until(partial(_has_more, fleet, known), pause_s=0.0)
        if number % 2:  # it has begun, and is being sent
            fleet.wait_until(lambda: groups_of(fleet)[0].state is GroupState.RUNNING, pause_s=0.0)
        else:
            fleet.rest(chance.uniform(0.0, 0.2))
        starter.kill()
        starter.wait()
    begun = [each for each in groups_of(fleet) if each.state is not GroupState.STARTING]
    report("group-starts", None, starters=starters, begun=len(begun))
    assert len(begun) >= starters // 2
    assert all(each.total == members for each in begun), "whole"

    async def finish(store: Store) -> None:
        while (await store.sweep()).groups:
            pass

    fleet.ask(finish)
    assert fleet.metrics("mail").backlog_messages == members * len(begun), "or nothing"
