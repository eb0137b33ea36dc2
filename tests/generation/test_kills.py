"""Workers killed between an order and the first look at it: the provider has one order for each generation.

KILLS=50 pytest tests/generation/test_kills.py -m campaign -s
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor_apps.sandbox import SandboxSettings, create_sandbox
from cutmv.kit import children_of, wait_until
from generation.nextjs import listening_beside, receiving_beside
from generation.served import Served

KILLS = int(os.environ.get("KILLS", "50"))
DOUBT = "submission_in_doubt"
CRASHES = "crashes"
"""Each kill hits all that is at work, and what was at work at three of them has spent conveyor's crash budget."""
CUT_EVERY = 5
HOLD_S = 1.5


class SlowAnswers:
    """The sandbox, whose answers to orders take their time once the orders are taken."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.hold_s = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_late(message: Any) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(self.hold_s)
            await send(message)

        is_order = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/interactions")
        await self._app(scope, receive, send_late if is_order else send)


@pytest.mark.campaign
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mode", ["queue", "alarm"])
def test_killed_between_order_and_look_nothing_is_ordered_twice(tmp_path: Path, mode: str) -> None:
    chance = random.Random(int(os.environ.get("SEED", "11")))
    slow = SlowAnswers(create_sandbox(SandboxSettings(is_clock_running=True, generation_s=2)))
    with listening_beside(slow) as sandbox, receiving_beside() as nextjs, httpx2.Client(base_url=sandbox, timeout=60) as side:

        def orders() -> list[str]:
            found = side.get("/admin/submissions").json()["submissions"]
            return [str(each["client_id"]).rpartition("-")[0] for each in found]

        def is_ordered(id: str) -> bool:
            return id in orders()

        with Served(
            tmp_path / "served", OMNI_BASE_URL=f"{sandbox}/omni", OMNI_API_KEY="key", NEXTJS_URL=nextjs.url,
            GENERATION_WEBHOOK_SECRET=nextjs.secret, GENERATION_POLL_S="1", GENERATION_USER_RATE="1000",
            GENERATION_DISPATCH=mode,
        ) as served:  # fmt: skip
            made: list[str] = []
            cut: list[str] = []
            for number in range(KILLS):
                is_cut = number % CUT_EVERY == CUT_EVERY - 1
                slow.hold_s = HOLD_S if is_cut else 0.0
                id = str(served.create(f"a paper boat, take {number}")["id"])
                made.append(id)
                wait_until(functools.partial(is_ordered, id), every=0.002)
                if is_cut:  # the provider has it, and its answer is on the way
                    cut.append(id)
                elif number % 2:  # at once, or somewhere before the first look
                    time.sleep(chance.uniform(0, 0.6))
                kill_worker(served.pid)
            ended = [served.finished(id) for id in made]
            wait_until(lambda: len(nextjs.events) >= 2 * len(made))
            jobs = {each["id"]: wait_until(functools.partial(job_end, served, each["jobId"])) for each in ended}
        assert Counter(orders()) == dict.fromkeys(made, 1), "one order for each, whatever became of its worker"
        failed = [each for each in ended if each["state"] != "completed"]
        ends = Counter(each["error"]["code"] for each in failed)
        assert set(ends) <= {DOUBT, CRASHES}
        assert {each["id"] for each in failed} >= set(cut), "the killed one could not know, and its successor cannot"
        for each in ended:
            last = "generation.failed" if each in failed else "generation.completed"
            assert nextjs.names_of(each["id"]) == ["generation.started", last]
            assert each not in failed or jobs[each["id"]] in ("failed", "dead"), "the job ends as its generation did"
        print(f"{mode}, {KILLS} kills: {len(ended) - len(failed)} videos, one order each; failed: {dict(ends)}")  # noqa: T201  # a campaign says what it saw


def job_end(served: Served, id: str) -> str | None:
    """As what it has ended, once it has."""
    token = {"authorization": f"Bearer {served.environment['CONVEYOR_TOKEN']}"}
    state = str(served.ask("GET", f"/api/v1/jobs/{id}", 200, headers=token)["state"])
    return state if state in ("succeeded", "failed", "dead", "cancelled") else None


def kill_worker(server: int) -> None:
    """The worker, once there is one."""
    [victim, *_] = wait_until(
        lambda: [pid for pid, line in children_of(server) if "conveyor.supervisor.worker" in line], every=0.02
    )
    os.kill(victim, signal.SIGKILL)
