"""The folder of a run goes with it, and one that a killed run has left goes with the next, servers and all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit.scratch import make_scratch, sweep

RUN = """
import sys, time
from pathlib import Path
from kit.scratch import make_scratch

print(make_scratch(Path(sys.argv[1])), flush=True)
time.sleep(600)
"""
TESTS = str(Path(__file__).parents[2])
SERVER = """
import signal, time

signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # as a server does: a shell's background jobs ignore it
print("up", flush=True)
time.sleep(600)
"""


def test_only_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    mine = make_scratch(tmp_path)
    other = tmp_path / "conveyor-tests-other"  # somebody else's, who says nothing of a lock
    other.mkdir()
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": TESTS}) as run:
        assert run.stdout is not None
        left = Path(run.stdout.readline().strip())
        sweep(tmp_path)
        assert left.is_dir()
        run.kill()
    (left / "conveyor-pg-x" / "data").mkdir(parents=True)
    sweep(tmp_path)
    assert not left.exists()
    assert mine.is_dir() and other.is_dir()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="who is who is read in /proc")
def test_the_servers_that_live_there_are_ended_and_no_others(tmp_path: Path) -> None:
    mine = tmp_path / "conveyor-tests-x" / "conveyor-pg-x" / "data"
    strange = tmp_path / "conveyor-tests-x" / "conveyor-pg-y" / "data"
    lives, reused = [
        subprocess.Popen([sys.executable, "-c", SERVER, where], stdout=subprocess.PIPE)
        for where in (str(mine), "elsewhere")
    ]
    with lives, reused:
        for server, folder in ((lives, mine), (reused, strange)):
            assert server.stdout is not None and server.stdout.readline()
            folder.mkdir(parents=True)
            (folder / "postmaster.pid").write_text(f"{server.pid}\n{folder}\n")
        (tmp_path / "conveyor-tests-x" / "lock").touch()
        sweep(tmp_path)
        try:
            assert lives.wait(timeout=60) == -signal.SIGQUIT
            assert reused.poll() is None
        finally:
            lives.kill()
            reused.kill()
    assert not (tmp_path / "conveyor-tests-x").exists()
