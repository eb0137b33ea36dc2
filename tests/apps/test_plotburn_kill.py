"""Plotburn under `conveyor serve`, its workers killed: every movie is counted, no roast is stored twice."""

import os
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

MOVIES = 20
KILLS = 3
RUN_S_MAX = 60.0


def workers_of(server: int) -> list[int]:
    """The server's worker processes, the newest last."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(row[0]) for row in rows if int(row[1]) == server and "conveyor.supervisor.worker" in row[-1]]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_workers_killed_at_any_moment_lose_no_movie_and_store_no_roast_twice(tmp_path: Path) -> None:
    with Children(Interrupts()) as children:
        stage = Stage(DemoSettings(movies=MOVIES), children, tmp_path)
        with closing(stage):
            stage.open()
            debug, kills = play_and_kill(stage)
    assert kills == KILLS
    assert debug["run"]["failed_movie_ids"] == [stage.gone_movie_id]
    assert debug["run"]["roasts_processed"] == MOVIES - 1
    assert debug["run"]["roasts_generated"] == MOVIES - 1, "a roast is of the run that wrote it, whoever tells of it"
    with closing(apsw.Connection(str(tmp_path / "plotburn.db"))) as database:
        counts = database.execute("SELECT count(*), count(DISTINCT movie_id), sum(is_active) FROM roasts").fetchone()
    assert counts == (MOVIES - 1, MOVIES - 1, MOVIES - 1)


def play_and_kill(stage: Stage) -> tuple[dict[str, dict[str, object]], int]:
    """One run, with a worker killed every few movies."""
    run, kills, deadline = stage.trigger(), 0, time.monotonic() + RUN_S_MAX
    while True:
        debug = stage.debug(run)
        if debug["run"]["status"] != "in_progress":
            return debug, kills
        assert time.monotonic() < deadline, debug["movies"]
        ended = sum(1 for movie in debug["movies"] if movie["outcome"])
        if kills < KILLS and ended >= 2 + 5 * kills:
            os.kill(workers_of(stage.server_pid)[kills % 2], signal.SIGKILL)
            kills += 1
