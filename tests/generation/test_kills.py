"""Workers killed between an order and the first look at it: the provider has one order for each generation.

    KILLS=50 pytest tests/generation/test_kills.py -m campaign -s
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from conveyor_apps.sandbox import SandboxSettings, serving
from cutmv.kit import children_of, wait_until
from generation.nextjs import receiving_beside
from generation.served import Served

KILLS = int(os.environ.get("KILLS", "50"))
DOUBT = "submission_in_doubt"


@pytest.mark.campaign
@pytest.mark.timeout(1_800)
def test_killed_between_order_and_look_nothing_is_ordered_twice(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("SEED", "11")))
    settings = SandboxSettings(is_clock_running=True, generation_s=2)
    with serving(settings) as sandbox, receiving_beside() as nextjs, httpx2.Client(base_url=sandbox) as side:

        def orders() -> list[str]:
            found = side.get("/admin/submissions").json()["submissions"]
            return [str(each["client_id"]).rpartition("-")[0] for each in found]

        with Served(
            tmp_path / "served", OMNI_BASE_URL=f"{sandbox}/omni", OMNI_API_KEY="key", NEXTJS_URL=nextjs.url,
            GENERATION_WEBHOOK_SECRET=nextjs.secret, GENERATION_POLL_S="1", GENERATION_USER_RATE="1000",
        ) as served:  # fmt: skip
            made: list[str] = []
            killed = 0
            for number in range(KILLS):
                id = str(served.create(f"a paper boat, take {number}")["id"])
                made.append(id)
                wait_until(lambda id=id: id in orders(), every=0.002)
                if number % 2:  # at once, or somewhere before the first look
                    time.sleep(chance.uniform(0, 0.6))
                killed += kill_worker(served.pid)
            ended = [served.finished(id) for id in made]
            wait_until(lambda: len(nextjs.events) >= 2 * len(made))
        assert killed == KILLS
        assert Counter(orders()) == dict.fromkeys(made, 1), "one order for each, whatever became of its worker"
        doubts = [each for each in ended if each["state"] != "completed"]
        assert {each["error"]["code"] for each in doubts} <= {DOUBT}
        for each in ended:
            last = "generation.failed" if each in doubts else "generation.completed"
            assert nextjs.names_of(each["id"]) == ["generation.started", last]
        print(f"{KILLS} kills: {len(ended) - len(doubts)} videos, {len(doubts)} orders in doubt, none twice")


def kill_worker(server: int) -> bool:
    """The worker, once there is one; whether there was."""
    [victim, *_] = wait_until(
        lambda: [pid for pid, line in children_of(server) if "conveyor.supervisor.worker" in line], every=0.02
    )
    os.kill(victim, signal.SIGKILL)
    return True
