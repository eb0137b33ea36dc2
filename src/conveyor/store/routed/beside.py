"""What one of the stores has beside its queues, and bears no numbers: schedules, named values, documents."""

from __future__ import annotations

from conveyor.store.protocol import Seal, Store
from conveyor.store.records import Document, Fired, Firing, KeyInfo, KeyValue, Run, Schedule, ScheduleDraft


class PartBeside:
    """`ScheduleStore`, `KeyValueStore` and `DocumentStore` of one of the stores."""

    @property
    def _live(self) -> Store:
        raise NotImplementedError

    # Schedules

    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        return await self._live.declare_schedule(draft, next_tick)

    async def list_schedules(self) -> list[Schedule]:
        return await self._live.list_schedules()

    async def get_schedule(self, name: str) -> Schedule:
        return await self._live.get_schedule(name)

    async def fire(self, firing: Firing) -> Fired:
        return await self._live.fire(firing)

    async def pause_schedule(self, name: str) -> None:
        await self._live.pause_schedule(name)

    async def resume_schedule(self, name: str, next_tick: int | None) -> None:
        await self._live.resume_schedule(name, next_tick)

    async def begin_run(self, schedule: str, tick: int) -> None:
        await self._live.begin_run(schedule, tick)

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None:
        await self._live.finish_run(schedule, tick, error=error)

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        return await self._live.list_runs(schedule, limit=limit, before_tick=before_tick)

    # Key-value

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        return await self._live.kv_get(namespace, key)

    async def kv_put(self, namespace: str, entry: KeyValue) -> None:
        await self._live.kv_put(namespace, entry)

    async def kv_delete(self, namespace: str, key: str) -> bool:
        return await self._live.kv_delete(namespace, key)

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        return await self._live.kv_list(namespace, prefix=prefix, limit=limit, after=after)

    # Documents

    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        return await self._live.put_document(kind, name, body, version=version)

    async def get_document(self, kind: str, name: str) -> Document | None:
        return await self._live.get_document(kind, name)

    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        return await self._live.delete_document(kind, name, version=version)

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        return await self._live.list_documents(kind, prefix=prefix, limit=limit, after=after)

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        return await self._live.append_record(trail, body, seal)
