"""A concierge for tests: the real app on a file of its own, its endpoints, people of every role, and a worker on call."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2

from conveyor_apps.concierge.audit import SYSTEM
from conveyor_apps.concierge.passwords import hash_password
from conveyor_apps.concierge.room import Room
from conveyor_apps.concierge.settings import read_settings
from conveyor_apps.concierge.wiring import Concierge, build_concierge
from conveyor_apps.concierge.words import Role
from conveyor_apps.sandbox import SandboxSettings
from conveyor_apps.sandbox.serve import serving
from conveyor_apps.tables import Transaction

PASSWORD = "correct horse battery"  # noqa: S105  # the test's own
WAIT_S = 60.0


class PostOffice:
    """The sandbox's mail server and its Twilio, as a concierge's settings name them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.client = httpx2.Client(base_url=url, timeout=30, trust_env=False)
        authority = folder / "ca.pem"
        authority.write_bytes(self.client.get("/admin/ca.pem").content)
        smtp = self.client.get("/admin/mail").json()["smtp"]
        self.environment = {
            "SMTP_URL": f"smtp://concierge:secret@{smtp['host']}:{smtp['starttls']}", "SMTP_CA": str(authority),
            "TWILIO_BASE_URL": f"{url}/twilio", "TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": "secret",
            "TWILIO_FROM": "+15005550006",
        }  # fmt: skip

    def accepted(self) -> list[dict[str, Any]]:
        """All that was taken, by whichever provider."""
        found: list[dict[str, Any]] = self.client.get("/admin/accepted").json()["accepted"]
        return found

    def strike(self, provider: str, *mishaps: Mapping[str, Any]) -> None:
        """What is to befall messages from now on."""
        assert self.client.put(f"/admin/mishaps/{provider}", json=list(mishaps)).status_code == 200


@contextlib.contextmanager
def post_office(folder: Path) -> Iterator[PostOffice]:
    """Open one."""
    with serving(SandboxSettings(smtp_port=0)) as url:
        office = PostOffice(url, folder)
        try:
            yield office
        finally:
            office.client.close()


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


async def _admit_everybody(room: Room) -> dict[Role, str]:
    """One of each role; their passwords are hashed once for all tests."""

    def work(tx: Transaction) -> None:
        for role in Role:
            tx.change("add_user", name=role, role=role, address=f"{role}@clinic.test", password=_hashed())

    await room.database.write(work)
    return {role: await room.people.add_token(role, "tests", SYSTEM, days=1) for role in Role}


@functools.cache
def _hashed() -> str:
    return hash_password(PASSWORD)


@contextlib.asynccontextmanager
async def clinic(
    folder: Path, environment: Mapping[str, str] | None = None, *, url: str | None = None
) -> AsyncIterator[Clinic]:
    """Open one. Without settings of providers nothing is sent: each attempt fails for a while."""
    settings = read_settings(
        {"CONCIERGE_DATA": str(folder / "data"), "CONCIERGE_RATE": "100000", "CONCIERGE_RETRY_MS": "20", **(environment or {})}
    )
    built = build_concierge(settings, url=url or f"sqlite:///{folder}/conveyor.db")
    async with built.app:
        tokens = await _admit_everybody(built.doorway.room())
        running = Clinic(built, tokens)
        try:
            yield running
        finally:
            await running.aclose()
