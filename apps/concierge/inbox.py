"""Reading: lists of messages by pages, and how it goes in all."""

import base64
import binascii
from typing import Final

import msgspec

from conveyor_apps.tables import Database, Transaction

from . import clock
from .errors import FieldError
from .records import Message, read_message
from .words import Channel, State

PAGE_MAX: Final = 200
RECENT: Final = 20
HOURS: Final = 24


class Page(msgspec.Struct, frozen=True):
    """Some messages, the newest first, and where the next page begins."""

    items: list[Message]
    next: str | None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How messages stand, and what happened in the last day."""

    states: dict[str, int]
    events: dict[str, int]
    recent: list[dict[str, str | int]]


class Inbox:
    """All messages, for those who look."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, *, limit: int, cursor: str | None = None, state: State | None = None, channel: Channel | None = None,
        author: str | None = None, recipient: str | None = None,
    ) -> Page:  # fmt: skip
        """Those that fit. `FieldError` for a cursor that is none."""
        at, id = read_cursor(cursor)
        values = {"channel": channel, "author": author, "recipient": recipient, "id": id}

        def work(tx: Transaction) -> list[Message]:
            if state is None:
                return [read_message(row) for row in tx.rows("inbox", at=at, limit=limit + 1, **values)]
            rows = tx.rows("inbox_of_state", at=at, limit=limit + 1, state=state, **values)
            return [read_message(row) for row in rows]

        found = await self._database.read(work)
        if len(found) <= limit:
            return Page(found, None)
        last = found[limit - 1]
        return Page(found[:limit], write_cursor(last.created_at, last.id))

    async def totals(self) -> Totals:
        """Of all messages."""

        def work(tx: Transaction) -> Totals:
            recent: list[dict[str, str | int]] = [
                {"message": message, "at": clock.iso(at), "actor": actor, "event": event, "attempt": attempt}
                for _, message, at, actor, event, attempt, _ in tx.rows("recent_history", limit=RECENT)
            ]
            return Totals(
                states={str(state): count for state, count in tx.rows("states")},
                events={str(event): count for event, count in tx.rows("counts", hours=HOURS)},
                recent=recent,
            )

        return await self._database.read(work)


def write_cursor(at: int, id: str) -> str:
    """For the last one of a page."""
    return base64.urlsafe_b64encode(f"{at}:{id}".encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> tuple[int, str]:
    """Before which moment and id the page lies; without a cursor before any. `FieldError`."""
    if text is None:
        return 2**62, ""
    try:
        at, _, id = base64.urlsafe_b64decode(text[:400] + "=" * (-len(text) % 4)).decode().partition(":")
        return min(int(at), 2**62), id
    except (binascii.Error, ValueError):
        raise FieldError("cursor", "is none that was given out") from None
