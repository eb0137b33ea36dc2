"""A Python new enough for the peers that need 3.12, and `.venv-bench` with those peers in it.

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

NEEDED = (3, 12)
NAMES = ("python3.12", "python3.13", "python3.14")
REQUIREMENTS = Path(__file__).parent / "peers-requirements.txt"
HOME = ROOT / ".venv-bench"
STAMP = "requirements.sha256"
PROBE = "import ensurepip, sys, venv; raise SystemExit(sys.version_info < (3, 12))"


class NoPeerPythonError(Exception):
    """There is no Python for these peers, or no way to install them; the text says which."""


def peer_python() -> str:
    """The interpreter of `.venv-bench`, built now unless it is there and holds the pinned requirements."""
    python = HOME / "bin" / "python"
    if not (python.exists() and _stamp().exists() and _stamp().read_text() == _wanted()):
        _build(_find())
    return str(python)


def _find() -> str:
    for candidate in _candidates():
        if _really_runs(candidate):
            return candidate
    raise NoPeerPythonError("needs Python 3.12")


def _candidates() -> Iterator[str]:
    chosen = os.environ.get("CONVEYOR_BENCH_PYTHON")
    if chosen:
        yield chosen
        return
    if sys.version_info >= NEEDED:
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


def _really_runs(candidate: str) -> bool:
    try:
        return subprocess.run([candidate, "-c", PROBE], check=False, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _build(python: str) -> None:
    """A fresh environment; it ignores itself, so that no list of ignored files needs to know it."""
    shutil.rmtree(HOME, ignore_errors=True)
    _run([python, "-m", "venv", str(HOME)])
    (HOME / ".gitignore").write_text("*\n")
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", "--require-hashes", "--requirement", str(REQUIREMENTS)])
    _stamp().write_text(_wanted())


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NoPeerPythonError(f"could not build {HOME.name}: {(lines or ['no reason given'])[-1]}")


def _stamp() -> Path:
    return HOME / STAMP


def _wanted() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
