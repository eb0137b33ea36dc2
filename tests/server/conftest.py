"""An app on an SQLite file of its own, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.model.events import Event
from conveyor.testing.clock import ManualClock


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def app(tmp_path: Path, clock: ManualClock, events: list[Event]) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db", clock=clock, emit=events.append)
    app.declare_queue("jobs")
    async with app:
        yield app
