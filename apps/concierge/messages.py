"""The messages: what people do with them, each step with its history in one transaction."""

from conveyor_apps.tables import Database

from .records import HistoryLine, Message, find_message, history_of


class Messages:
    """All of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, message: str) -> Message | None:
        """One as it stands."""
        return await self._database.read(lambda tx: find_message(tx, message))

    async def history(self, message: str) -> list[HistoryLine]:
        """All that happened to it, the oldest first."""
        return await self._database.read(lambda tx: history_of(tx, message))
