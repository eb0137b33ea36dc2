"""Ten orders a minute, whoever gives them: the sandbox counts, and would turn an eleventh away."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor_apps.generation.errors import SettingError
from conveyor_apps.generation.limits import stretched
from conveyor_apps.generation.records import State
from conveyor_apps.sandbox import Faults, SandboxSettings, serving
from conveyor_apps.sandbox import ProviderName as SandboxName
from cutmv.kit import wait_until
from generation.served import FINAL, Served
from generation.stage import stage

pytestmark = pytest.mark.anyio

PER_MINUTE = 10


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def moments_of(submissions: Sequence[Mapping[str, Any]]) -> list[float]:
    return sorted(datetime.fromisoformat(each["at"]).timestamp() for each in submissions)


def judge(submissions: Sequence[Mapping[str, Any]], *, count: int, most: int, period_s: float) -> None:
    """Each job gave one order, all were taken, and no period held more, wherever it began."""
    assert len({each["client_id"] for each in submissions}) == len(submissions) == count
    assert all(each["operation"] for each in submissions), "none was turned away"
    moments = moments_of(submissions)
    assert max(sum(begin <= each < begin + period_s for each in moments) for begin in moments) == most


def test_the_rate_is_stretched_so_that_no_delay_on_the_way_breaks_it() -> None:
    assert [stretched(each) for each in ("10/m", "1/s", "50/10s", "7/2h")] == ["10/63s", "1/4s", "50/13s", "7/7203s"]
    for wrong in ("", "ten", "10/w", "10 per minute", "10/m; 20/m"):
        with pytest.raises(SettingError, match="GENERATION_PROVIDER_RATE"):
            stretched(wrong)


async def test_no_period_holds_more_orders_than_the_rate_and_polls_are_not_counted(tmp_path: Path) -> None:
    environment = {"GENERATION_PROVIDER_RATE": "3/10s", "GENERATION_WORKERS": "30"}
    async with stage(tmp_path, environment=environment, generation_s=7) as playing:
        made = await playing.run_until_final(await playing.create_many(6), within=60)
        submissions = await playing.submissions()
    assert {each.state for each in made} == {State.COMPLETED}
    assert {each.attempt for each in made} == {1}, "waiting for a turn is no try"
    judge(submissions, count=6, most=3, period_s=10)


async def test_a_limit_that_the_provider_names_holds_for_everybody(tmp_path: Path) -> None:
    """Somebody else uses the key as well: of five orders one is turned away, and none comes before it may."""
    async with stage(tmp_path, environment={"GENERATION_WORKERS": "1"}, generation_s=3) as playing:
        await playing.faults("omni", endpoint="submit", rate_limit_every=3, retry_after_s=20)
        made = await playing.run_until_final(await playing.create_many(4), within=90)
        submissions = await playing.submissions()
        calls = (await playing.sandbox.get("/admin/calls")).json()["omni"]["endpoints"]["submit"]
    assert {each.state for each in made} == {State.COMPLETED}
    assert {each.attempt for each in made} == {1}
    assert calls == {"ok": 4, "rate_limited": 1}, "those behind it did not ask"
    moments = moments_of(submissions)
    assert moments[1] - moments[0] < 5
    assert moments[2] - moments[1] >= 20


@pytest.mark.campaign
@pytest.mark.timeout(1_200)
def test_ten_a_minute_over_three_processes_and_at_least_nine_used(tmp_path: Path) -> None:
    """Against a sandbox that takes ten a minute, and counts on its own clock."""
    count = int(os.environ.get("SUBMISSIONS", "41"))
    faults = {SandboxName.OMNI: Faults(submissions_per_minute=PER_MINUTE)}
    settings = SandboxSettings(is_clock_running=True, generation_s=8, faults=faults)
    with serving(settings) as url, httpx2.Client(base_url=url, timeout=60) as sandbox:
        environment = {
            "OMNI_BASE_URL": f"{url}/omni", "OMNI_API_KEY": "key", "GENERATION_PROVIDER_RATE": f"{PER_MINUTE}/m",
            "GENERATION_WORKERS": "12", "GENERATION_USER_RATE": "1000", "GENERATION_POLL_S": "2",
        }  # fmt: skip
        served = Served(tmp_path / "served", **environment)
        served.command = (*served.command, "--processes", "3")
        with served:
            wait_until(lambda: len(served.workers()) == 3)
            made = [served.create(f"a paper boat, take {number}")["id"] for number in range(count)]
            seconds = 60 + 8 * count
            wait_until(lambda: served.get(made[-1])["state"] in FINAL, seconds=seconds, every=2)
            ended = [served.finished(id) for id in made]
        submissions = sandbox.get("/admin/submissions").json()["submissions"]
    assert {each["state"] for each in ended} == {"completed"}
    judge(submissions, count=count, most=PER_MINUTE, period_s=60)
    moments = moments_of(submissions)
    windows = [moment - moments[0] for moment in moments[::PER_MINUTE]]
    per_minute = PER_MINUTE * (len(windows) - 1) / (windows[-1] / 60)
    assert per_minute >= 9, f"{per_minute:.2f} a minute: the tens began after {windows} s"
