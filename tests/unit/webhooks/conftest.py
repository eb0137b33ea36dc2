"""Webhooks run on asyncio: an app that sends to a listener on loopback, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from conveyor import Conveyor
from conveyor.model.events import Event
from conveyor.testing.harness import Harness
from kit.hooks import Listener, listening


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def app(events: list[Event]) -> Conveyor:
    app = Conveyor("shop", url="memory://", emit=events.append)
    app.webhooks.configure(http=True, ports=None, allow=["127.0.0.0/8"])
    return app


@pytest.fixture
async def kit(app: Conveyor) -> AsyncIterator[Harness]:
    async with app.testing() as kit:
        yield kit


@pytest.fixture
async def hook() -> AsyncIterator[Listener]:
    async with listening(Listener()) as listener:
        yield listener
