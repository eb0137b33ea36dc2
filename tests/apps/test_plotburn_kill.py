"""Plotburn under `conveyor serve`, its workers killed: every movie is counted, no roast is stored twice."""

import os
import random
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from conveyor_apps.demo import DemoSettings
from conveyor_apps.demo.children import Children
from conveyor_apps.demo.interrupts import Interrupts
from conveyor_apps.demo.stage import Stage

RUN_S_MAX = 120.0
HANDLER_S = 0.5
"""About what one movie takes against the demo's sandbox."""


def workers_of(server: int) -> list[int]:
    """The server's worker processes, the newest last."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(row[0]) for row in rows if int(row[1]) == server and "conveyor.supervisor.worker" in row[-1]]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("movies", "processes", "kills"),
    [
        pytest.param(20, 2, 3, id="ci"),
        pytest.param(50, 3, int(os.environ.get("KILLS", "20")), id="campaign", marks=pytest.mark.campaign),
    ],
)
def test_workers_killed_at_any_moment_lose_no_movie_and_store_no_roast_twice(
    tmp_path: Path, movies: int, processes: int, kills: int
) -> None:
    chance = random.Random(int(os.environ.get("SEED", "11")))
    with Children(Interrupts()) as children:
        stage = Stage(DemoSettings(movies=movies, processes=processes), children, tmp_path)
        with closing(stage):
            stage.open()
            debug = play_and_kill(stage, chance, kills)
    assert debug["run"]["failed_movie_ids"] == [stage.gone_movie_id]
    assert debug["run"]["roasts_processed"] == movies - 1
    assert debug["run"]["roasts_generated"] == movies - 1, "a roast is of the run that wrote it, whoever tells of it"
    with closing(apsw.Connection(str(tmp_path / "plotburn.db"))) as database:
        counts = database.execute("SELECT count(*), count(DISTINCT movie_id), sum(is_active) FROM roasts").fetchone()
    assert counts == (movies - 1, movies - 1, movies - 1)
    with closing(apsw.Connection(str(tmp_path / "conveyor.db"))) as store:
        dead = store.execute("SELECT origin_queue, reason FROM dead_letters").fetchall()
    assert len(dead) == 1, "only the movie that is gone is dead"


def play_and_kill(stage: Stage, chance: random.Random, kills: int) -> dict[str, dict[str, object]]:
    """One run, with a worker killed every three handler times, and no fewer than `kills` of them."""
    run, deadline, killed_at = stage.trigger(), time.monotonic() + RUN_S_MAX, time.monotonic()
    while True:
        assert time.monotonic() < deadline, stage.debug(run)["movies"]
        if kills and time.monotonic() - killed_at >= 3 * HANDLER_S:
            victims = workers_of(stage.server_pid)
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
                kills, killed_at = kills - 1, time.monotonic()
        debug: dict[str, dict[str, object]] = stage.debug(run)
        if debug["run"]["status"] != "in_progress" and kills == 0:
            return debug
