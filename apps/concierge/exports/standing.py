"""How exports stand, in the table: each step in one transaction, with its record in the trail where people will ask."""

from dataclasses import dataclass

import msgspec

from conveyor_apps.concierge.audit import SYSTEM, Trail, Who
from conveyor_apps.concierge.jobs import ExportJob
from conveyor_apps.concierge.words import ExportState, Format
from conveyor_apps.tables import Database, Row, Transaction

from .exporter import Extent, Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export as it stands; moments are milliseconds since the epoch."""

    id: str
    user: str
    filters: str
    """As JSON."""
    format: Format
    state: ExportState
    rows_done: int
    rows_total: int | None
    last: int | None
    """How far its rows go, once the first attempt has looked."""
    key: str | None
    bytes: int | None
    sha256: str | None
    error: str | None
    created_at: int
    updated_at: int
    ended_at: int | None
    expires_at: int | None


class Exports:
    """All of them."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    async def add(self, job: ExportJob) -> Export:
        """As it stands; a new one if nobody has put it there before."""
        filters = msgspec.json.encode(job.filters).decode()
        values: dict[str, str] = {"id": job.export_id, "user": job.user_id, "filters": filters, "format": job.format}
        await self._database.write(lambda tx: tx.change("add_export", **values))
        export = await self.find(job.export_id)
        assert export is not None
        return export

    async def find(self, export: str) -> Export | None:
        rows = await self._database.read(lambda tx: tx.rows("find_export", id=export))
        return read_export(rows[0]) if rows else None

    async def page(self, at: int, id: str, limit: int) -> list[Export]:
        """Those that were made before this moment and id, the newest first."""
        rows = await self._database.read(lambda tx: tx.rows("list_exports", at=at, id=id, limit=limit))
        return [read_export(row) for row in rows]

    async def begin(self, export: str, extent: Extent) -> Extent | None:
        """An attempt begins; what it is to hold, which the first one said. None if it was cancelled."""
        rows, last = extent.rows, extent.last
        if not await self._database.write(lambda tx: tx.change("begin_export", id=export, rows=rows, last=last)):
            return None
        found = await self.find(export)
        if found is None or found.rows_total is None or found.last is None:
            return None
        return Extent(rows=found.rows_total, last=found.last)

    async def advance(self, export: str, rows: int) -> bool:
        """Whether it is still to be written."""
        return bool(await self._database.write(lambda tx: tx.change("advance_export", id=export, rows=rows)))

    async def finish(self, export: str, made: Made, expires_at: int) -> bool:
        """Its file lies in the bucket; False if it was cancelled meanwhile."""

        def work(tx: Transaction) -> bool:
            done = tx.change(
                "finish_export", id=export, rows=made.rows, key=made.key, bytes=made.size, sha256=made.sha256,
                expires=expires_at,
            )  # fmt: skip
            if done:
                self._trail.write(tx, SYSTEM, "export.ready", export)
            return bool(done)

        return await self._database.write(work)

    async def put_back(self, export: str, problem: str) -> None:
        """This attempt failed, and another will come."""
        await self._database.write(lambda tx: tx.change("requeue_export", id=export, error=problem))

    async def fail(self, export: str, problem: str) -> bool:
        """For good."""
        return await self._end("fail_export", "export.failed", SYSTEM, export, error=problem)

    async def cancel(self, export: str, who: Who) -> bool:
        """Whether there was still something to cancel; whoever writes it stops at its next page."""
        return await self._end("cancel_export", "export.cancelled", who, export)

    async def expire(self, export: str) -> bool:
        """Its file is gone."""
        return await self._end("expire_export", "export.expired", SYSTEM, export)

    async def _end(self, statement: str, action: str, who: Who, export: str, **values: str) -> bool:
        def work(tx: Transaction) -> bool:
            if not tx.change(statement, id=export, **values):
                return False
            self._trail.write(tx, who, action, export)
            return True

        return await self._database.write(work)


def read_export(row: Row) -> Export:
    """Of a row of `find_export`."""
    (id, user, filters, format, state, rows_done, rows_total, last, key, bytes, sha256, error, created_at, updated_at,
     ended_at, expires_at) = row  # fmt: skip
    return Export(
        id=id, user=user, filters=filters, format=Format(format), state=ExportState(state), rows_done=rows_done,
        rows_total=rows_total, last=last, key=key, bytes=bytes, sha256=sha256, error=error, created_at=created_at,
        updated_at=updated_at, ended_at=ended_at, expires_at=expires_at,
    )  # fmt: skip
