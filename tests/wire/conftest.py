"""A server as people start it, and the clients that Cloudflare's users have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from kit.wrangler import Server, Wrangler, fetch, served

APP: Final = "from conveyor import Conveyor\n\napp = Conveyor('wire')\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`conveyor serve`, on an SQLite file."""
    with served(tmp_path_factory.mktemp("server"), APP) as server:
        yield server


@pytest.fixture(scope="module", params=["node20", pytest.param("node22", marks=pytest.mark.campaign)])
def wrangler(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Wrangler]:
    """wrangler with this token; the newest release needs a Node of its own, and runs in the long campaign."""
    home = fetch(request.param)

    def with_token(token: str = server.token) -> Wrangler:
        return Wrangler(home, tmp_path_factory.mktemp("project"), server.url, token)

    return with_token
