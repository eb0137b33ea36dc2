"""What operators do with queues and their consumers: names and settings are checked here, the store does the rest."""

from __future__ import annotations

from typing import Final

from conveyor.model.errors import ConflictError
from conveyor.model.settings import ConsumerSettings, QueueSettings, check_name
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo, QueueMetrics

QUEUES_MAX: Final = 10_000
"""That may be made by hand, as in Cloudflare's account."""


class Queues:
    """All queues of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, name: str, settings: QueueSettings | None = None) -> QueueInfo:
        """`QueueExistsError`; `ConflictError` for more than `QUEUES_MAX`."""
        wanted = settings or QueueSettings()
        check_name("queue", name)
        wanted.check()
        if len(await self._store.list_queues()) >= QUEUES_MAX:
            raise ConflictError(f"there are {QUEUES_MAX:,} queues already", hint="delete some: `conveyor queues list`")
        return await self._store.create_queue(name, wanted)

    async def update(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        """With `version` only if the queue is still of that one. `VersionConflictError`."""
        settings.check()
        return await self._store.update_queue(name, settings, version=version)

    async def rename(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        """The same queue under another name; `conveyor.subscriptions.rename_queue` also tells what it hears of.
        `QueueExistsError`, `QueueNotRenamableError`; `version` as for `update`."""
        check_name("queue", new)
        return await self._store.rename_queue(name, new, version=version)

    async def delete(self, name: str) -> None:
        """Its messages go with it."""
        await self._store.delete_queue(name)

    async def list(self) -> list[QueueInfo]:
        return await self._store.list_queues()

    async def info(self, name: str) -> QueueInfo:
        """`QueueNotFoundError`."""
        return await self._store.get_queue(name)

    async def metrics(self, name: str) -> QueueMetrics:
        return await self._store.metrics(name)

    async def put_consumer(
        self, name: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        """The consumer's settings from now on; None removes it. `version` as for `update`."""
        if settings is not None:
            settings.check()
        return await self._store.put_consumer(name, settings, version=version)

    async def pause(self, name: str) -> None:
        """Nothing is delivered until `resume`; running handlers finish."""
        await self._store.pause(name)

    async def resume(self, name: str) -> None:
        await self._store.resume(name)

    async def purge(self, name: str) -> int:
        """All of its messages are gone; how many."""
        return await self._store.purge(name)
