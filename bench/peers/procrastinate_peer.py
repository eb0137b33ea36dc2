"""procrastinate as documented for throughput: psycopg, sub-workers and as many connections, finished jobs deleted."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from bench.peers.contract import Answer, Body, Note, python_version

SUB_WORKERS = 30


class Procrastinate:
    """One task. It runs under another Python than the type checker's, hence the imports by name."""

    name = "procrastinate"
    store = "postgres"
    drained = 1_500
    ways: Mapping[str, Mapping[str, int]] = {
        f"procrastinate, concurrency {count}": {"concurrency": count} for count in (10, SUB_WORKERS)
    }

    def _make(self, url: str, connections: int, note: Note) -> None:
        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        procrastinate: Any = importlib.import_module("procrastinate")
        connector = procrastinate.PsycopgConnector(conninfo=url, min_size=connections, max_size=connections)
        self._app: Any = procrastinate.App(connector=connector)

        async def handle(body: dict[str, int]) -> None:
            note(body["number"])

        self._task: Any = self._app.task(name="handle")(handle)

    async def open(self, url: str) -> None:
        self._make(url, 20, lambda _number: None)
        await self._app.open_async()
        if not await self._app.check_connection_async():
            await self._app.schema_manager.apply_schema_async()

    async def close(self) -> None:
        await self._app.close_async()

    async def facts(self) -> Answer:
        names = ("procrastinate", "psycopg", "uvloop")
        found = await self._app.connector.execute_query_one_async("show synchronous_commit")
        return {
            "versions": {**{name: version(name) for name in names}, "python": python_version()},
            "settings": f"delete_jobs=always, pool of 20 (synchronous_commit={found['synchronous_commit']})",
        }

    async def send(self, body: Body) -> None:
        await self._task.defer_async(body=body)

    async def send_many(self, bodies: list[Body]) -> None:
        await self._task.batch_defer_async(*({"body": body} for body in bodies))

    async def left(self) -> int:
        found = await self._app.connector.execute_query_one_async("select count(*) as jobs from procrastinate_jobs")
        return int(found["jobs"])

    async def work(self, url: str, note: Note, settings: Mapping[str, int]) -> None:
        count = settings["concurrency"]
        self._make(url, count + 1, note)
        async with self._app.open_async():
            await self._app.run_worker_async(concurrency=count, delete_jobs="always")
