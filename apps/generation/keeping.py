"""What has ended is kept for a while, then its video goes, and after it its record with all events."""

from typing import Final

from conveyor import Bucket

from .ledger import Ledger
from .logbook import Component, Logbook
from .records import video_key

AT_ONCE: Final = 200


class Keeper:
    """Removes what is over."""

    def __init__(self, ledger: Ledger, bucket: Bucket, log: Logbook, keep_s: int | None) -> None:
        self._ledger = ledger
        self._bucket = bucket
        self._log = log
        self._keep_s = keep_s

    async def clear(self) -> int:
        """All that ended so long ago: how many. A record goes after its video, so that a crash leaves none behind."""
        if self._keep_s is None:
            return 0
        gone, for_ms = 0, self._keep_s * 1000
        while found := await self._ledger.over(for_ms=for_ms, limit=AT_ONCE):
            await self._bucket.delete_many([key or video_key(id) for id, key in found])  # some ended once it was there
            removed = await self._ledger.forget([id for id, _ in found], for_ms=for_ms)
            gone += removed
            if not removed:
                break
        if gone:
            self._log.info(Component.STORAGE, "Removed what is over", generations=gone, keptFor=self._keep_s)
        return gone
