"""Millions of rows in constant memory: the campaign of decision 0039. `ROWS` says how many, five million if nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from conveyor_apps.concierge.words import Format

from .archivist import fill, open_archivist

pytestmark = pytest.mark.campaign

ROWS = int(os.environ.get("ROWS", "5000000"))
RSS_MIB_MAX = 300
SINCE = 1_760_000_000_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with so many messages."""
    folder = tmp_path_factory.mktemp("large")

    async def make() -> None:
        async with open_archivist(folder) as archivist:
            fill(archivist.database.path, ROWS, since=SINCE)

    started = time.monotonic()
    anyio.run(make)
    size = (folder / "concierge.db").stat().st_size
    print(f"\n{ROWS:,} rows, {size / 2**20:,.0f} MiB, made in {time.monotonic() - started:.0f} s")
    yield folder
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("format", list(Format))
def test_millions_of_rows_take_constant_memory_and_show_their_progress(filled: Path, format: Format) -> None:
    command = [sys.executable, "-m", "concierge.exporting", str(filled), format]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3_500)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{format}: {json.dumps(found)}")
    assert (found["state"], found["rows"], found["is_same"]) == ("ready", ROWS, True)
    assert found["rss_mib"] < RSS_MIB_MAX
    assert found["progress"] > 1
    assert found["is_rising"]
    assert found["last"] == f"{ROWS:,} of {ROWS:,} rows"
