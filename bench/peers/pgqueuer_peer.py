"""pgqueuer as its page on performance says: asyncpg, a pool for producers, a connection for the worker, `pgq autovac`.

Its tables are `durable`, its default: nothing acknowledged is lost when the server dies.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import signal
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from bench.peers.contract import Answer, Body, Note, python_version

POOL_MIN, POOL_MAX = 5, 20


class PgQueuer:
    """One entrypoint. It runs under another Python than the type checker's, hence the imports by name."""

    name = "pgqueuer"
    store = "postgres"
    drained = 20_000
    ways: Mapping[str, Mapping[str, int]] = {
        f"pgqueuer, batches of {size}": {"batch_size": size} for size in (200, 50, 10)
    }

    async def open(self, url: str) -> None:
        database, queries = (importlib.import_module(f"pgqueuer.{name}") for name in ("db", "queries"))
        self._pool = await importlib.import_module("asyncpg").create_pool(url, min_size=POOL_MIN, max_size=POOL_MAX)
        self._queries: Any = queries.Queries(database.AsyncpgPoolDriver(self._pool))
        if not await self._queries.schema_is_installed():
            await self._queries.install()
            await self._queries.optimize_autovacuum()

    async def close(self) -> None:
        await self._pool.close()

    async def facts(self) -> Answer:
        names = ("pgqueuer", "asyncpg", "uvloop")
        commit = await self._pool.fetchval("show synchronous_commit")
        return {
            "versions": {**{name: version(name) for name in names}, "python": python_version()},
            "settings": f"durable, autovac, pool of {POOL_MAX} for producers (synchronous_commit={commit})",
        }

    async def send(self, body: Body) -> None:
        await self._queries.enqueue("handle", json.dumps(body).encode())

    async def send_many(self, bodies: list[Body]) -> None:
        count = len(bodies)
        await self._queries.enqueue(["handle"] * count, [json.dumps(body).encode() for body in bodies], [0] * count)

    async def left(self) -> int:
        return int(await self._pool.fetchval("select count(*) from pgqueuer"))

    async def work(self, url: str, note: Note, settings: Mapping[str, int]) -> None:
        pgqueuer = importlib.import_module("pgqueuer")
        connection = await importlib.import_module("asyncpg").connect(url)
        queue: Any = pgqueuer.PgQueuer.from_asyncpg_connection(connection)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)

        async def handle(job: Any) -> None:
            note(json.loads(job.payload)["number"])

        queue.entrypoint("handle")(handle)
        await queue.run(batch_size=settings["batch_size"])
        await connection.close()
