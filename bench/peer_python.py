"""A Python for the peers of one file of requirements, and an environment below `.venv-bench` with them in it.

Looked for in this order: CONVEYOR_BENCH_PYTHON, the bench's own Python, python3.12 and newer on the PATH, pyenv.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.program import ROOT

NAMES = ("python3.12", "python3.13", "python3.14")
HOMES = ROOT / ".venv-bench"
STAMP = "requirements.sha256"


class NoPeerPythonError(Exception):
    """There is no Python for these peers, or no way to install them; the text says which."""


def peer_python(name: str, needed: tuple[int, int] = (3, 11)) -> str:
    """The interpreter of `.venv-bench/<name>`, built now unless it is there and holds `peers-<name>.txt`."""
    home, requirements = HOMES / name, Path(__file__).parent / f"peers-{name}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    python, stamp = home / "bin" / "python", home / STAMP
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        _build(home, _find(needed), requirements)
        stamp.write_text(wanted)
    return str(python)


def _find(needed: tuple[int, int]) -> str:
    for candidate in _candidates(needed):
        if _really_runs(candidate, needed):
            return candidate
    raise NoPeerPythonError(f"needs Python {needed[0]}.{needed[1]}")


def _candidates(needed: tuple[int, int]) -> Iterator[str]:
    chosen = os.environ.get("CONVEYOR_BENCH_PYTHON")
    if chosen:
        yield chosen
        return
    if sys.version_info >= needed:
        yield sys.executable
    yield from (found for name in NAMES if (found := shutil.which(name)))
    yield from _pyenv_candidates()


def _pyenv_candidates() -> Iterator[str]:
    """pyenv's shims are on the PATH for versions that are not switched on, and then do not run."""
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return
    root = subprocess.run([pyenv, "root"], check=False, capture_output=True, text=True).stdout.strip()
    for name in NAMES:
        yield from sorted(map(str, Path(root).glob(f"versions/*/bin/{name}")))


def _really_runs(candidate: str, needed: tuple[int, int]) -> bool:
    probe = f"import ensurepip, sys, venv; raise SystemExit(sys.version_info < {needed})"
    try:
        return subprocess.run([candidate, "-c", probe], check=False, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _build(home: Path, python: str, requirements: Path) -> None:
    """A fresh environment; the folder ignores itself, so that no list of ignored files needs to know it."""
    shutil.rmtree(home, ignore_errors=True)
    _run([python, "-m", "venv", str(home)])
    (HOMES / ".gitignore").write_text("*\n")
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", "--require-hashes", "--requirement", str(requirements)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NoPeerPythonError(f"could not build an environment: {(lines or ['no reason given'])[-1]}")
