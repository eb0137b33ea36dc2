"""The counters of a queue, read when they are asked for."""

from __future__ import annotations

from conveyor.queue.admin import Queues
from conveyor.server.cloudflare.dialect import succeed
from conveyor.server.cloudflare.directory import Directory
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Right


class MetricsDesk:
    """The endpoint of a queue's metrics."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def endpoints(self) -> list[Endpoint]:
        path = "/queues/{queue}/metrics"
        return [Endpoint(method="GET", path=path, right=Right.READ, handle=self.show)]

    async def show(self, call: Call) -> Answer:
        """Messages that are not acknowledged, leased and delayed ones too."""
        known = await self._directory.find(call, Right.READ)
        found = await Queues(call.store).metrics(known.name)
        return succeed(
            {
                "backlog_count": found.backlog_messages,
                "backlog_bytes": found.backlog_bytes,
                "oldest_message_timestamp_ms": found.oldest_ready_at or 0,
            }
        )
