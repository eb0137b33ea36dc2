"""A PgBouncer of the tests' own, in transaction mode, before a server of theirs."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.postgres import Server, _as_user, _free_port

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user=conveyor
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_reset_query_always = 1
server_reset_query = DISCARD ALL
ignore_startup_parameters = extra_float_digits
"""


@contextlib.contextmanager
def pooled(server: Server) -> Iterator[str]:
    """The server's address by way of the pooler; two sessions serve everybody."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("no PgBouncer on this machine: install one (Debian: `apt install pgbouncer`) to run this test")
    port = _free_port()
    folder = Path(tempfile.mkdtemp(prefix="conveyor-pgbouncer-"))
    as_user = _as_user(folder)
    (folder / "pgbouncer.ini").write_text(CONFIGURATION.format(server=server.port, port=port), encoding="ascii")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*as_user, binary, str(folder / "pgbouncer.ini")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        yield f"postgresql://conveyor@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
