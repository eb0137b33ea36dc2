"""`/api/v1` of an app on an SQLite file, as an admin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from conveyor import Conveyor
from kit.served import ADMIN, BASE, serving


@pytest.fixture
async def api(app: Conveyor) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(app) as client:
        client.base_url = httpx2.URL(f"{BASE}/api/v1")
        client.headers["authorization"] = f"Bearer {ADMIN}"
        yield client
