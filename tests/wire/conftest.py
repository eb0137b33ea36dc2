"""A server as people start it, and the clients that Cloudflare's users have."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from kit.wrangler import Server, Wrangler, fetch

TOKEN: Final = "a-token-of-the-tests-with-enough-signs"  # noqa: S105 good for a server that lives for one test
APP: Final = "from conveyor import Conveyor\n\napp = Conveyor('wire')\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`conveyor serve`, on an SQLite file."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "wired.py").write_text(APP, encoding="utf-8")
    store = f"sqlite:///{folder}/conveyor.db"
    environment = {**os.environ, "CONVEYOR_URL": store, "CONVEYOR_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "conveyor", "serve", "wired:app", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield Server(_read_url(process.stderr), TOKEN, store)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=20)
            process.kill()


def _read_url(lines: Iterator[str]) -> str:
    said: list[str] = []
    for line in lines:
        said.append(line)
        found = re.search(r"serving (http://\S+)", line)
        if found is not None:
            return found[1]
    raise AssertionError("the server did not start: " + "".join(said))


@pytest.fixture(scope="module", params=["node20", pytest.param("node22", marks=pytest.mark.campaign)])
def wrangler(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Wrangler]:
    """wrangler with this token; the newest release needs a Node of its own, and runs in the long campaign."""
    home = fetch(request.param)

    def with_token(token: str = server.token) -> Wrangler:
        return Wrangler(home, tmp_path_factory.mktemp("project"), server.url, token)

    return with_token
