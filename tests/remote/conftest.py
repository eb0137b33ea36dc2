"""A far API for each test, and no environment but its token."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .far import Far


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def far(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Far]:
    made = Far()
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", made.token)
    monkeypatch.delenv("CONVEYOR_TOKEN", raising=False)
    monkeypatch.delenv("CONVEYOR_URL", raising=False)
    monkeypatch.delenv("CLOUDFLARE_API_BASE_URL", raising=False)
    async with made.serving():
        yield made
