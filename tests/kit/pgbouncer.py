"""A real PgBouncer before the tests' server: transaction mode, fewer sessions than clients, so that they change hands."""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from kit.postgres import Server, as_user, free_port, the_server

SETTINGS: Final = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
server_login_retry = 1
logfile = {folder}/log
pidfile = {folder}/pid
"""
READY_S: Final = 30.0


class PgBouncer:
    """A running pooler before one server."""

    def __init__(self, binary: str, server: Server) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="conveyor-pgbouncer-"))
        self.port = free_port()
        self._server = server
        as_whom = as_user(self.folder)
        (self.folder / "users").write_text('"conveyor" ""\n', encoding="ascii")
        settings = SETTINGS.format(server=server.port, port=self.port, folder=self.folder)
        (self.folder / "pgbouncer.ini").write_text(settings, encoding="ascii")
        command = [*as_whom, binary, "-q", str(self.folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, **options: str) -> str:
        """The URL of a fresh schema, by way of the pooler."""
        return self._server.url(self.port, **options)

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8") if (self.folder / "log").exists() else ""

    def remove(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


def find_pgbouncer() -> str:
    """Skips the test where there is none."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("no PgBouncer: install one (Debian: `apt install pgbouncer`) to run these tests")
    return found


@cache
def the_pooler() -> PgBouncer:
    """This process's pooler, before this process's server."""
    pooler = PgBouncer(find_pgbouncer(), the_server())
    atexit.register(pooler.remove)
    return pooler
