"""Processes that write, replace, copy and delete are killed at any moment: every object is whole, and once what is in
doubt is old, as many files are left as objects have."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor import Bucket, Conveyor
from conveyor.blobs.files import ORPHAN_S, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.campaign, pytest.mark.timeout(1_800)]

PROGRAM = """
import asyncio, random, sys
from conveyor import Conveyor, NotFoundError

dice = random.Random(int(sys.argv[1]))

async def content(size, mark):
    for start in range(0, size, 65536):
        yield bytes([mark]) * min(65536, size - start)

async def work(bucket):
    while True:
        key, other = (f"k{dice.randrange(12)}" for _ in range(2))
        deed = dice.random()
        if deed < 0.6:
            await bucket.put(key, content(dice.choice([0, 10, 70_000, 900_000]), dice.randrange(256)))
        elif deed < 0.8:
            try:
                await bucket.copy(key, other)
            except NotFoundError:
                pass
        else:
            await bucket.delete(key)

async def main():
    async with Conveyor("shop", url="sqlite:///shop.db") as app:
        bucket = app.bucket("UPLOADS")
        await bucket.head("k0")
        print("here", flush=True)
        await asyncio.gather(*(work(bucket) for _ in range(4)))

asyncio.run(main())
"""


async def test_killed_writers_leave_whole_objects_and_no_files(folder: Path) -> None:
    kills, dice = int(os.environ.get("KILLS", "20")), random.Random(int(os.environ.get("SEED", "11")))
    place, seen, swept = folder / "shop.db-files" / "buckets", 0, 0
    for number in range(kills):
        with subprocess.Popen([sys.executable, "-c", PROGRAM, str(number)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"here\n"
            await asyncio.sleep(dice.uniform(0.02, 0.4))
            process.kill()
        async with Conveyor("shop", url="sqlite:///shop.db") as app:
            seen += await check(app.bucket("UPLOADS"))
            if number % 5 == 4:
                swept += await sweep_as_tomorrow(app, place)
    async with Conveyor("shop", url="sqlite:///shop.db") as app:
        swept += await sweep_as_tomorrow(app, place)
        await check(app.bucket("UPLOADS"))
    assert seen
    sys.stdout.write(f"{kills} kills, {seen} objects read and whole, {swept} files swept\n")  # `pytest -s` shows it


async def check(bucket: Bucket) -> int:
    """Every object's bytes are those that it says."""
    objects = (await bucket.list()).objects
    for info in objects:
        found = await bucket.get(info.key)
        assert found is not None, info.key
        assert hashlib.sha256(found.body).hexdigest() == info.sha256
    return len(objects)


async def sweep_as_tomorrow(app: Conveyor, place: Path) -> int:
    for path in files(place):
        before = path.stat().st_mtime - ORPHAN_S - 1
        os.utime(path, (before, before))
    swept = await sweep(app.store, place)
    named = {each.version for each in (await app.bucket("UPLOADS").list()).objects}
    assert {path.name for path in files(place)} == named
    return swept


def files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]
