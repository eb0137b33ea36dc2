"""Objects far larger than memory's share go through it piece by piece: a process of its own says how much it held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kit.s3 import S3Server

PROGRAM = """
import asyncio, json, resource, sys, time
from pathlib import Path
from conveyor import Conveyor

url, megabytes = sys.argv[1], int(sys.argv[2])
PIECE = bytes(range(256)) * 4096

def peak():  # KiB; the process's own, where `ru_maxrss` would begin with its parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

async def content():
    for _ in range(megabytes):
        yield PIECE

async def main():
    buckets = {"B": url} if url else {}
    async with Conveyor("shop", url="sqlite:///shop.db", buckets=buckets) as app:
        bucket = app.bucket("B")
        await bucket.put("small", b"x" * 20_000_000)
        await bucket.get("small", length=1)
        before, start = peak(), time.monotonic()
        put = await bucket.put("big", content())
        between, written = peak(), time.monotonic()
        read = 0
        async for piece in bucket.chunks("big"):
            read += len(piece)
        print(json.dumps({
            "put": put.size, "read": read, "grew_put": between - before, "grew_get": peak() - between,
            "put_s": written - start, "get_s": time.monotonic() - written,
        }))

asyncio.run(main())
"""


def measure(folder: Path, url: str, megabytes: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, url, str(megabytes)], cwd=folder, capture_output=True, text=True, check=True)
    found: dict[str, float] = msgspec.json.decode(done.stdout)
    print(found)
    assert found["put"] == found["read"] == megabytes * 1_048_576
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("place", ["files", "s3"])
def test_memory_does_not_grow_with_an_object(place: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """128 MB through less than 48."""
    found = measure(folder, _url(place, request), 128)
    assert found["grew_put"] + found["grew_get"] < 48 * 1_024


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("place", ["files", "s3"])
def test_a_gigabyte_goes_through_a_few_megabytes(place: str, folder: Path, request: pytest.FixtureRequest) -> None:
    found = measure(folder, _url(place, request), 1_024)
    assert found["grew_put"] + found["grew_get"] < 48 * 1_024


def _url(place: str, request: pytest.FixtureRequest) -> str:
    if place == "files":
        return ""
    server: S3Server = request.getfixturevalue("s3")
    return server.url(request.getfixturevalue("remote"))
