"""Objects far larger than memory's share go through it piece by piece: a process of its own says how much it held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kit.s3 import S3Server

GROWTH_KIB_MAX = 64 * 1_024
"""Two parts on their way to S3 and the next one, pieces, and what the libraries keep."""

PROGRAM = """
import asyncio, json, resource, sys, time
from pathlib import Path
from conveyor import Conveyor

url, megabytes = sys.argv[1], int(sys.argv[2])
PIECE = bytes(range(256)) * 4096

def status(name):  # KiB; the process's own, where `ru_maxrss` would begin with its parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

async def content():
    for _ in range(megabytes):
        yield PIECE

async def main():
    buckets = {"B": url} if url else {}
    async with Conveyor("shop", url="sqlite:///shop.db", buckets=buckets) as app:
        bucket = app.bucket("B")
        await bucket.put("small", b"x")
        await bucket.get("small")
        before, start = status("VmRSS"), time.monotonic()
        put = await bucket.put("big", content())
        between, written = status("VmHWM"), time.monotonic()
        read = 0
        async for piece in bucket.chunks("big"):
            read += len(piece)
        print(json.dumps({
            "put": put.size, "read": read, "put_kib": between - before, "put_get_kib": status("VmHWM") - before,
            "put_s": written - start, "get_s": time.monotonic() - written,
        }))

asyncio.run(main())
"""


def measure(folder: Path, url: str, megabytes: int) -> dict[str, float]:
    command = [sys.executable, "-c", PROGRAM, url, str(megabytes)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, float] = msgspec.json.decode(done.stdout)
    sys.stdout.write(f"{found}\n")  # `pytest -s` shows it
    assert found["put"] == found["read"] == megabytes * 1_048_576
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("place", ["files", "s3"])
def test_memory_does_not_grow_with_an_object(place: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """128 MiB."""
    found = measure(folder, _url(place, request), 128)
    assert found["put_get_kib"] < GROWTH_KIB_MAX


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("place", ["files", "s3"])
def test_a_gigabyte_goes_through_a_few_megabytes(place: str, folder: Path, request: pytest.FixtureRequest) -> None:
    found = measure(folder, _url(place, request), 1_024)
    assert found["put_get_kib"] < GROWTH_KIB_MAX


def _url(place: str, request: pytest.FixtureRequest) -> str:
    if place == "files":
        return ""
    server: S3Server = request.getfixturevalue("s3")
    return server.url(request.getfixturevalue("remote"))
