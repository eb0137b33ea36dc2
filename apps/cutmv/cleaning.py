"""Every hour: what is older than is kept goes, from the tables and from the bucket; orders that nobody finishes end."""

from typing import Final

from conveyor import Bucket
from conveyor_apps.tables import Database

from . import clock
from .orders import Orders
from .reports import Kind, Report, Reporter
from .settings import Settings
from .uploads import Uploads, forget_prefix
from .workfolder import sweep

HOUR_MS: Final = 3_600_000
LOST: Final = "Nothing was heard of this order for too long. You can try again."


class Cleaning:
    """Looks at everything once."""

    def __init__(
        self, database: Database, bucket: Bucket, orders: Orders, uploads: Uploads, reporter: Reporter,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._database = database
        self._bucket = bucket
        self._orders = orders
        self._uploads = uploads
        self._reporter = reporter
        self._settings = settings

    async def run(self) -> dict[str, int]:
        """How many of each kind went."""
        kept_ms = self._settings.keep_hours * HOUR_MS
        before = clock.now_ms() - kept_ms
        silent = await self._orders.silent(for_ms=kept_ms)
        for each in silent:  # by way of the server, whose browsers want to know
            report = Report(order=each.id, generation=each.generation, kind=Kind.FAILED, error=LOST)
            await self._reporter.tell(report)
        gone = 0
        for (order,) in await self._database.read(lambda tx: tx.rows("old_orders", before=before)):
            await forget_prefix(self._bucket, f"orders/{order}/")
            await self._orders.delete(order)
            gone += 1
        uploads = await self._uploads.drop_old(before)
        strays = await self._drop_strays(clock.now_ms() - HOUR_MS)
        return {
            "silent": len(silent), "orders": gone, "uploads": uploads, "objects": strays,
            "folders": sweep(self._settings.work),
        }  # fmt: skip

    async def _drop_strays(self, before_ms: int) -> int:
        """Objects that belong to no upload and no order any more: a worker finished one after its order was gone."""
        dropped, cursor, known = 0, None, dict[str, bool]()
        while True:
            page = await self._bucket.list(cursor=cursor)
            for each in page.objects:
                owner = "/".join(each.key.split("/")[:2])
                if owner not in known:
                    known[owner] = await self._is_known(owner)
                if not known[owner] and each.uploaded.timestamp() * 1000 < before_ms:
                    await self._bucket.delete(each.key)
                    dropped += 1
            cursor = page.cursor
            if cursor is None:
                return dropped

    async def _is_known(self, owner: str) -> bool:
        kind, _, name = owner.partition("/")
        statement = "find_upload" if kind == "uploads" else "find_order"
        return bool(await self._database.read(lambda tx: tx.rows(statement, id=name)))
