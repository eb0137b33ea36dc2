"""Every fenced Python example runs, each in a folder and a store of its own; every console line names verbs that are
there."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conveyor.cli import main
from docs.markdown import ROOT, Block, blocks
from kit.postgres import the_server

PYTHON = list(blocks("python"))
CONSOLE = list(blocks("console"))
FIRST = next(block for block in PYTHON if block.file == "README.md")


ON_POSTGRES = {"docs/how-to/transactional-send-postgresql.md"}
"""Pages whose examples run on a database of their own: `CONVEYOR_URL` and `DATABASE_URL`."""


def _environment(folder: Path) -> dict[str, str]:
    ours = {"CONVEYOR_URL": f"sqlite:///{folder}/conveyor.db", "PYTHONUNBUFFERED": "1", "CONVEYOR_LOG": "json"}
    return {**os.environ, **ours}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_an_example_runs(block: Block, tmp_path: Path) -> None:
    if block.reason is not None:
        pytest.skip(block.reason)
    (tmp_path / "example.py").write_text(block.text, encoding="utf-8")
    database = _make_database(block) if block.file in ON_POSTGRES else {}
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path, env=_environment(tmp_path) | database, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == _promised(block), "the example prints something else than its `# prints:` lines say"


def _make_database(block: Block) -> dict[str, str]:
    server = the_server().url().partition("?")[0]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE example_{block.line}")
    url = server.replace("/postgres", f"/example_{block.line}")
    return {"CONVEYOR_URL": url, "DATABASE_URL": url}


def _promised(block: Block) -> str:
    return "".join(f"{line}\n" for line in re.findall(r"# prints: (.+)$", block.text, re.MULTILINE))


def test_the_first_example_does_what_the_readme_shows(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FIRST.text, encoding="utf-8")
    subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, env=_environment(tmp_path), timeout=60, check=True)
    with (tmp_path / "work.log").open("wb") as log:
        work = subprocess.Popen(
            [sys.executable, "-m", "conveyor", "work", "shop:app"],
            cwd=tmp_path, env=_environment(tmp_path), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while "packing lamp" not in (said := (tmp_path / "work.log").read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
    finally:
        work.send_signal(signal.SIGTERM)
        assert work.wait(timeout=60) == 0
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\npacking lamp\n" in shown


def _commands() -> Iterator[tuple[str, str]]:
    for block in CONSOLE:
        for line in block.text.splitlines():
            if line.startswith("$ ") and block.reason is None:
                yield str(block), line[2:].partition("  #")[0].strip()


@pytest.mark.parametrize(("where", "command"), list(_commands()), ids=lambda value: str(value)[:60])
def test_a_console_line_names_what_is_there(
    where: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words[0] == "make":
        _check_make(words[1:])
    elif words[0] == "conveyor":
        _check_conveyor(words[1:], capsys)
    else:
        assert words[0].rpartition("/")[2] in {"python", "curl", "wrangler"}, where


def _check_make(targets: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target


def _check_conveyor(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    verb = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert not ended.value.code
    said = capsys.readouterr().out
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in said, f"`conveyor {' '.join(verb)}` has no {word}"
