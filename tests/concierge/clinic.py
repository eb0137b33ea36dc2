"""A concierge for tests: the real app on a file of its own, its endpoints, people of every role, and a worker on call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2

from conveyor import Backoff
from conveyor_apps.concierge.audit import SYSTEM
from conveyor_apps.concierge.people import NewUser
from conveyor_apps.concierge.room import Room
from conveyor_apps.concierge.settings import read_settings
from conveyor_apps.concierge.wiring import Concierge, build_concierge
from conveyor_apps.concierge.words import Role

PASSWORD = "correct horse battery"
SOON = Backoff(base_ms=50)
WAIT_S = 60.0


class Clinic:
    """One that is open. `as_` gives the client of somebody of this role, by a token."""

    def __init__(self, concierge: Concierge, tokens: Mapping[Role, str]) -> None:
        self.concierge = concierge
        self.app = concierge.app
        self._tokens = tokens
        self._door = httpx2.ASGITransport(app=concierge.endpoints)
        self._clients: dict[Role | None, httpx2.AsyncClient] = {}

    @property
    def room(self) -> Room:
        return self.concierge.doorway.room()

    def as_(self, role: Role | None) -> httpx2.AsyncClient:
        if role not in self._clients:
            self._clients[role] = self.visitor()
            if role is not None:
                self._clients[role].headers["authorization"] = f"Bearer {self._tokens[role]}"
        return self._clients[role]

    def visitor(self, base_url: str = "http://concierge.test") -> httpx2.AsyncClient:
        """A client of its own: nobody yet."""
        return httpx2.AsyncClient(transport=self._door, base_url=base_url, timeout=30)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """With a worker."""
        worker = asyncio.create_task(self.app.work())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.wait([worker])

    async def wait_for(self, message: str, *states: str) -> Any:
        """The message, once it is in one of these states."""
        with anyio.fail_after(WAIT_S):
            while True:
                answer = await self.as_(Role.ADMIN).get(f"/api/messages/{message}")
                if answer.status_code == 200 and answer.json()["state"] in states:
                    return answer.json()
                await anyio.sleep(0.05)

    async def history(self, message: str) -> list[str]:
        answer = await self.as_(Role.AUDITOR).get(f"/api/messages/{message}/history")
        return [line["event"] for line in answer.json()["items"]]

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


@contextlib.asynccontextmanager
async def clinic(
    folder: Path, environment: Mapping[str, str] | None = None, *, url: str | None = None
) -> AsyncIterator[Clinic]:
    """Open one. Without settings of providers nothing is sent: each attempt fails for a while."""
    settings = read_settings(
        {"CONCIERGE_DATA": str(folder / "data"), "CONCIERGE_RATE": "100000", **(environment or {})}
    )
    built = build_concierge(settings, url=url or f"sqlite:///{folder}/conveyor.db", backoff=SOON)
    async with built.app:
        people = built.doorway.room().people
        tokens = {}
        for role in Role:
            await people.add(NewUser(name=role, role=role, address=f"{role}@clinic.test", password=PASSWORD))
            tokens[role] = await people.add_token(role, "tests", SYSTEM, days=1)
        running = Clinic(built, tokens)
        try:
            yield running
        finally:
            await running.aclose()
