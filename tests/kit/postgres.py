"""A PostgreSQL server of the tests' own: from binaries found on this machine, in a folder that is gone afterwards.

It listens on a socket in that folder and on a free port of loopback, trusts whoever comes that way, and syncs nothing.
One for each pytest process, started when the first test wants it. Each test gets a schema of its own.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "autovacuum": "off",
}
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "autovacuum": "on"}
_schemas = itertools.count(1)


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest release first."""
    candidates = [Path(found).resolve().parent for name in ("initdb", "postgres") if (found := shutil.which(name))]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.split(".")[0]), reverse=True)
    if asked := shutil.which("pg_config"):
        candidates.append(Path(subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=True).stdout.strip()))
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


class Server:
    """A running server, and the URL of a database in it."""

    def __init__(self, binaries: Path, folder: Path | None = None, **settings: str) -> None:
        self.binaries = binaries
        self.folder = folder or Path(tempfile.mkdtemp(prefix="conveyor-pg-"))
        self.port = _free_port()
        self.settings = SETTINGS | settings
        self._as_user = _as_user(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        if not (self.folder / "data").exists():
            self._call("initdb", "-D", str(self.folder / "data"), "-U", "conveyor", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")

    def start(self) -> None:
        """Returns once it answers."""
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        where = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            command = [*self._as_user, str(self.binaries / "postgres"), *where, *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self._call("pg_ctl", "status", "-D", str(self.folder / "data"), check=False)
        for _ in range(600):
            ready = self._call("pg_isready", "-q", "-t", "1", "-h", "127.0.0.1", "-p", str(self.port), check=False)
            if ready == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
        pytest.fail("the server did not start:\n" + (self.folder / "log").read_text())

    def stop(self, mode: str = "fast") -> None:
        """`pg_ctl stop`: smart, fast or immediate."""
        if self._process is not None:
            self._call("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", mode, "-w", check=False)
            self._process.wait(timeout=60)
            self._process = None

    def remove(self) -> None:
        self.stop("immediate")
        for _ in range(3):  # the last of its processes may still write while it is told to end
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, **options: str) -> str:
        """The URL of a fresh schema."""
        options = {"schema": f"t{next(_schemas)}"} | options
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://conveyor@127.0.0.1:{self.port}/postgres?{query}"

    def _call(self, name: str, *words: str, check: bool = True) -> int:
        done = subprocess.run(
            [*self._as_user, str(self.binaries / name), *words], capture_output=True, text=True, check=False, cwd=self.folder
        )
        assert done.returncode == 0 or not check, f"{name}: {done.stderr or done.stdout}"
        return done.returncode


@cache
def the_server() -> Server:
    """This process's server; skips the test where there is none to start."""
    return _start()


@cache
def the_durable_server() -> Server:
    """Another, which syncs and vacuums as one in production does."""
    return _start(**DURABLE)


def _start(**settings: str) -> Server:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine: install one (Debian: `apt install postgresql`) to run these tests")
    server = Server(binaries, None, **settings)
    atexit.register(server.remove)
    server.start()
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_user(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return ["runuser", "-u", name, "--"] if shutil.which("runuser") else ["su", "-s", "/bin/sh", name, "-c", 'exec "$0" "$@"', "--"]
    pytest.skip("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` here")
