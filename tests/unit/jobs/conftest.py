"""An app of jobs in memory, on a clock that the test moves, and its shop of functions."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
