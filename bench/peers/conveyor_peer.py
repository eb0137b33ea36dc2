"""conveyor through its front door, at default settings; its worker is `conveyor work` (see `conveyor_app`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version

import apsw

from bench.peers.contract import SYNCHRONOUS, Answer, Body, Note, python_version
from conveyor import Conveyor

BATCH = 100
"""What a `send_batch` holds unless the queue's settings say more."""


class ConveyorPeer:
    """One application and one declared queue."""

    name = "conveyor"
    store: str
    drained = 60_000
    ways: Mapping[str, Mapping[str, int]] = {"conveyor": {}, "conveyor, batch handler": {"batch": 1}}

    async def open(self, url: str) -> None:
        self._app = Conveyor("bench", url=url)
        self._app.declare_queue("jobs")
        await self._app.ensure_open()
        self._queue = self._app.queue("jobs")

    async def close(self) -> None:
        await self._app.close()

    async def send(self, body: Body) -> None:
        await self._queue.send(body)

    async def send_many(self, bodies: list[Body]) -> None:
        """In batches of the default size, all at once."""
        pieces = (bodies[first : first + BATCH] for first in range(0, len(bodies), BATCH))
        await asyncio.gather(*(self._queue.send_batch(piece) for piece in pieces))

    async def left(self) -> int:
        return (await self._queue.metrics()).backlog_messages

    async def work(self, url: str, note: Note, settings: Mapping[str, int]) -> None:
        raise NotImplementedError("conveyor's worker is its own command: conveyor work bench.peers.conveyor_app:app")


class ConveyorOnSQLite(ConveyorPeer):
    """One file."""

    store = "sqlite"

    async def facts(self) -> Answer:
        """The pragmas are asked of the connections that conveyor opened: what is printed was seen."""
        await self._queue.send({"number": 0})
        writers = [connection for connection in apsw.connections() if not connection.readonly("main")]
        if not writers:
            raise RuntimeError("no writing connection of conveyor was seen")
        journal = {str(connection.pragma("journal_mode")) for connection in writers}
        levels = {SYNCHRONOUS[int(str(connection.pragma("synchronous")))] for connection in writers}
        libraries = {"apsw": apsw.apsw_version(), "sqlite": apsw.sqlite_lib_version()}
        return {
            "versions": _versions() | libraries,
            "settings": f"defaults ({'/'.join(sorted(journal))}, synchronous={'/'.join(sorted(levels))})",
        }


class ConveyorOnPostgres(ConveyorPeer):
    """One schema."""

    store = "postgres"

    async def facts(self) -> Answer:
        return {
            "versions": _versions() | {"asyncpg": version("asyncpg")},
            "settings": "defaults (sends and verdicts with synchronous_commit=on)",
        }


def _versions() -> dict[str, str]:
    return {"conveyor": version("conveyor"), "python": python_version(), "uvloop": version("uvloop")}
