"""The one command: what it starts, what it teaches, and what it says when something is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor_apps.generation.__main__ import KEYS, TARGET, main, make_plan, read_flags
from cutmv.kit import wait_until
from generation.served import Served


def plan_of(*arguments: str, **environment: str) -> tuple[list[str], dict[str, str], bool]:
    plan = make_plan(*read_flags(arguments), environment)
    return plan.command[3:], plan.environment, plan.with_sandbox


def test_what_is_started() -> None:
    assert plan_of() == (["serve", TARGET], {}, True)
    assert plan_of("--port", "9000", "--mode", "alarm", "--processes", "2") == (
        ["serve", TARGET, "--processes", "2"], {"CONVEYOR_PORT": "9000", "GENERATION_DISPATCH": "alarm"}, True,
    )  # fmt: skip
    key = {"OMNI_API_KEY": "secret"}
    assert plan_of(**key) == (["serve", TARGET], key, False)
    assert plan_of("--sandbox", **key)[2]
    assert not plan_of("--no-sandbox")[2]
    assert not plan_of("work")[2], "a worker needs the providers of its server"


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["generation", "--no-sandbox"])
    with pytest.raises(SystemExit, match="OMNI_API_KEY"):
        main()


def test_it_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_flags(["--help"])
    said = capsys.readouterr().out
    for words in ("first steps", "http://127.0.0.1:8787", "--mode", "OMNI_API_KEY"):
        assert words in said


@pytest.mark.campaign
def test_the_sandbox_ends_with_its_server_however_that_ends(tmp_path: Path) -> None:
    served = Served(tmp_path / "killed")

    def is_there() -> bool:
        listed = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True).stdout
        return f"conveyor_apps.generation.beside {served.port + 1}" in listed

    try:
        with served:
            assert is_there()
            served.stop(signal.SIGKILL)
            wait_until(lambda: not is_there())
    finally:
        served.stop()
