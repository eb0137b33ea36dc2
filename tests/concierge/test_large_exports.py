"""Millions of rows in constant memory: the campaign of decision 0039. `ROWS` says how many, five million if nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from conveyor_apps.concierge.settings import BUCKET
from conveyor_apps.concierge.words import Format
from kit.s3 import s3_server

from .archivist import fill, open_archivist

pytestmark = pytest.mark.campaign

ROWS = int(os.environ.get("ROWS", "5000000"))
RSS_MIB_MAX = 300
SINCE = 1_760_000_000_000
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with so many messages."""
    folder = tmp_path_factory.mktemp("large")

    async def make() -> None:
        async with open_archivist(folder) as archivist:
            fill(archivist.database.path, ROWS, since=SINCE)

    anyio.run(make)
    yield folder
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def with_tests() -> dict[str, str]:
    """The environment of a process that takes modules from here."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def run(folder: Path, format: Format, **environment: str) -> dict[str, Any]:
    """An export in a process of its own, and what it took."""
    command = [sys.executable, "-m", "concierge.exporting", str(folder), format]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=3_500, env=with_tests() | environment
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    sys.stdout.write(f"\n{format}: {done.stdout}\n")
    assert found["state"] == "ready"
    assert found["rss_mib"] < RSS_MIB_MAX
    assert found["progress"] > 1
    return found


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("format", list(Format))
def test_millions_of_rows_take_constant_memory_and_show_their_progress(filled: Path, format: Format) -> None:
    found = run(filled, format)
    assert (found["rows"], found["is_same"], found["is_rising"]) == (ROWS, True, True)
    assert found["last"] == f"{ROWS:,} of {ROWS:,} rows"


@pytest.mark.timeout(3_600)
def test_a_killed_worker_leaves_no_file_and_the_next_writes_the_same(tmp_path: Path) -> None:
    """Killed once it has said how far it is; another process takes it up."""

    async def make() -> None:
        async with open_archivist(tmp_path) as archivist:
            fill(archivist.database.path, ROWS // 10, since=SINCE)

    async def look() -> tuple[int, list[str]]:
        async with open_archivist(tmp_path) as archivist, archivist.app:
            export = await archivist.exports.find("large-csv")
            return (export.rows_done if export else 0), await archivist.keys()

    anyio.run(make)
    command = [sys.executable, "-m", "concierge.exporting", str(tmp_path), Format.CSV]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=with_tests())
    try:
        deadline = time.monotonic() + 600
        while not anyio.run(look)[0]:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    assert anyio.run(look)[1] == []
    found = run(tmp_path, Format.CSV)
    assert (found["rows"], found["is_same"], found["attempts"]) == (ROWS // 10, True, 2)


@pytest.mark.timeout(3_600)
def test_a_bucket_behind_http_gets_it_in_parts(tmp_path: Path) -> None:
    """A tenth of the rows: the server on loopback keeps what it gets in memory."""

    async def make() -> None:
        async with open_archivist(tmp_path) as archivist:
            fill(archivist.database.path, ROWS // 10, since=SINCE)

    anyio.run(make)
    with s3_server(tmp_path) as server:
        server.client.create_bucket(Bucket="exports")
        found = run(tmp_path, Format.JSON, CONVEYOR_BUCKETS=json.dumps({BUCKET: server.url("exports")}))
        body = server.client.get_object(Bucket="exports", Key=found["key"])["Body"]
        digest = hashlib.sha256()
        for piece in body.iter_chunks(1 << 20):
            digest.update(piece)
        assert digest.hexdigest() == found["sha256"]
        assert any("partNumber=2" in line for line in server.asked())
