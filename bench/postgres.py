"""A PostgreSQL server of the bench's own, with the durability of a real one; each measurement gets a database."""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import asyncpg

from bench.places import Facts
from bench.program import MeasureError

T = TypeVar("T")

MIB = 1024 * 1024
START_TIMEOUT_SECONDS = 60.0
HAS_STATISTICS = "SELECT EXISTS (SELECT FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema'))"
SHOWN = (
    *("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers", "max_wal_size"),
    *("autovacuum", "autovacuum_naptime"),
)


class Server:
    """Started at once, on a free port of loopback and no socket; `remove` ends it and takes its files away."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        self._binaries = find_binaries()
        self._folder = folder
        folder.mkdir()
        self._as_user = _as_user(folder)
        self._port = _free_port()
        self._numbers = itertools.count(1)
        self._call("initdb", "-D", str(folder / "data"), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale")
        self._process = self._start()
        self._facts = ask(self._url("postgres"), _read_facts)

    def fresh(self, room: Path, *, like: str | None = None) -> str:
        name = f"b{next(self._numbers)}"
        ask(self._url("postgres"), lambda link: _create(link, name, like and like.rpartition("/")[2]))
        return self._url(name)

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        ask(self._url("postgres"), lambda link: link.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))

    def settle(self, url: str, *, analyze: bool) -> None:
        if analyze:
            ask(url, lambda link: link.execute("VACUUM (ANALYZE)"))
        ask(url, lambda link: link.execute("CHECKPOINT"))

    @contextmanager
    def without_statistics(self) -> Iterator[None]:
        """Autovacuum goes on, and gathers none."""
        ask(self._url("postgres"), _stop_analyzing)
        try:
            yield
        finally:
            ask(self._url("postgres"), _resume_analyzing)

    def has_statistics(self, url: str) -> bool:
        found: bool = ask(url, lambda link: link.fetchval(HAS_STATISTICS))
        return found

    def hold_snapshot(self, url: str) -> HeldSnapshot:
        return HeldSnapshot(url)

    def facts(self) -> Facts:
        return self._facts

    def remove(self) -> None:
        """Nothing is kept, so nothing needs to be written."""
        self._call("pg_ctl", "stop", "-D", str(self._folder / "data"), "-m", "immediate", "-w", check=False)
        self._process.wait(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _url(self, database: str) -> str:
        return f"postgresql://bench@127.0.0.1:{self._port}/{database}"

    def _start(self) -> subprocess.Popen[bytes]:
        where = ["-D", str(self._folder / "data"), "-p", str(self._port), "-h", "127.0.0.1", "-k", ""]
        options = [word for name, value in _settings().items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            command = [*self._as_user, str(self._binaries / "postgres"), *where, *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True)
        deadline = monotonic() + START_TIMEOUT_SECONDS
        while self._call("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port), check=False):
            if process.poll() is not None or monotonic() > deadline:
                raise MeasureError(f"PostgreSQL did not start: {(self._folder / 'log').read_text().strip()[-300:]}")
            sleep(0.1)
        return process

    def _call(self, name: str, *words: str, check: bool = True) -> int:
        command = [*self._as_user, str(self._binaries / name), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._folder)
        if check and done.returncode:
            raise MeasureError(f"{name}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        return done.returncode


class HeldSnapshot:
    """A REPEATABLE READ transaction that has read and has an id: a `pg_dump`, or a forgotten session."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._link = self._runner.run(_begin(url))

    def end(self) -> None:
        self._runner.run(self._link.execute("COMMIT"))
        self._runner.run(self._link.close())
        self._runner.close()


async def _begin(url: str) -> Any:
    link = await asyncpg.connect(url)
    await link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await link.fetchval("SELECT pg_current_xact_id()")
    await link.fetchval("SELECT count(*) FROM pg_class")
    return link


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: from the PATH, else the newest of Debian's releases. `MeasureError`."""
    candidates = [Path(found).resolve().parent for name in ("initdb", "postgres") if (found := shutil.which(name))]
    releases = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(releases, key=lambda path: float(path.parent.name), reverse=True)
    for path in candidates:
        if (path / "initdb").exists() and (path / "postgres").exists():
            return path
    raise MeasureError("no PostgreSQL on this machine (Debian: `apt install postgresql`)")


def _settings() -> dict[str, str]:
    """All that differs from what PostgreSQL ships with. 1 GB of buffers, or a quarter of a smaller machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    return {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "shared_buffers": f"{min(1024, memory // 4)}MB",
        "max_wal_size": "4GB",
        "max_connections": "200",
    }


def ask(url: str, question: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """What a question of one connection gives."""

    async def ask() -> T:
        link = await asyncpg.connect(url)
        try:
            return await question(link)
        finally:
            await link.close()

    return asyncio.run(ask())


async def _create(link: Any, name: str, template: str | None) -> None:
    """A large template is copied by its files where the release can also go by its log."""
    by_files = template is not None and link.get_server_version().major >= 15
    await link.execute(
        f'CREATE DATABASE "{name}" TEMPLATE "{template or "template1"}"' + (" STRATEGY file_copy" if by_files else "")
    )


async def _read_facts(link: Any) -> Facts:
    version = await link.fetchval("SHOW server_version")
    settings = [f"{name}={await link.fetchval(f'SHOW {name}')}" for name in SHOWN]
    return {"PostgreSQL": f"{version}, over TCP on loopback", "its settings": ", ".join(settings)}


async def _stop_analyzing(link: Any) -> None:
    await link.execute("ALTER SYSTEM SET autovacuum_analyze_threshold = 2147483647")
    await link.execute("SELECT pg_reload_conf()")


async def _resume_analyzing(link: Any) -> None:
    await link.execute("ALTER SYSTEM RESET autovacuum_analyze_threshold")
    await link.execute("SELECT pg_reload_conf()")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_user(folder: Path) -> Sequence[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return ["runuser", "-u", name, "--"]
    raise MeasureError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` here")
