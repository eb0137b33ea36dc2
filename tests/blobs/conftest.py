"""A bucket on each kind of place: local files, an S3 bucket, and a prefix of one."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from conveyor import Bucket, Conveyor
from kit.s3 import S3Server, s3_server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "CONVEYOR_FILES",
        "CONVEYOR_BUCKETS",
        "CONVEYOR_PUBLIC_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def remote(s3: S3Server) -> str:
    """The name of a bucket of a test's own."""
    name = f"b-{uuid4().hex}"
    s3.client.create_bucket(Bucket=name)
    return name


PLACES = ("files", "s3", "prefix")


@pytest.fixture(params=PLACES)
async def bucket(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Bucket]:
    buckets = {}
    if request.param != "files":
        name = request.getfixturevalue("remote")
        prefix = "/in/here" if request.param == "prefix" else ""
        buckets["UPLOADS"] = request.getfixturevalue("s3").url(name, prefix=prefix)
    async with Conveyor("shop", url="sqlite:///shop.db", buckets=buckets) as app:
        yield app.bucket("UPLOADS")


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Nobody listens there, and nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
