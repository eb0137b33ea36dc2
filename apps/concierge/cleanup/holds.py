"""Legal holds: what must not be deleted, whatever its age and whoever asks."""

import secrets
from enum import StrEnum
from typing import Final

import msgspec

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import Trail, Who
from conveyor_apps.concierge.errors import FieldError, RefusedError
from conveyor_apps.tables import Database, Row, Transaction

SUBJECT_CHARS_MAX: Final = 254
REASON_CHARS_MAX: Final = 500


class HoldKind(StrEnum):
    """What a hold is on."""

    ALL = "all"
    USER = "user"
    """All that somebody wrote or did."""
    MESSAGE = "message"
    RECIPIENT = "recipient"
    """Messages to one address."""
    EXPORT = "export"


class Hold(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One of them."""

    id: str
    kind: HoldKind
    subject: str
    """Empty for `all`."""
    reason: str
    placed_by: str
    placed_at: str
    lifted_by: str | None = None
    lifted_at: str | None = None


class Holds:
    """All of them."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    async def place(self, who: Who, kind: HoldKind, subject: str, reason: str) -> str:
        """Its id. It holds from now on, also for a cleanup that is under way. `FieldError`."""
        if (kind is HoldKind.ALL) != (not subject) or len(subject) > SUBJECT_CHARS_MAX:
            raise FieldError("subject", "must name what is held; a hold on all names nothing")
        if not 1 <= len(reason.strip()) <= REASON_CHARS_MAX:
            raise FieldError("reason", f"must be 1 to {REASON_CHARS_MAX} characters")
        id = secrets.token_hex(8)

        def work(tx: Transaction) -> None:
            tx.change("place_hold", id=id, kind=kind, subject=subject, reason=reason, by=who.name)
            self._trail.write(tx, who, "hold.placed", id)

        await self._database.write(work)
        return id

    async def lift(self, who: Who, id: str) -> None:
        """What it held may go from now on. `RefusedError` if there is no such hold."""

        def work(tx: Transaction) -> bool:
            if not tx.change("lift_hold", id=id, by=who.name):
                return False
            self._trail.write(tx, who, "hold.lifted", id)
            return True

        if not await self._database.write(work):
            raise RefusedError("There is no such hold.", status=404)

    async def list(self) -> list[Hold]:
        """Those that hold, then those that were lifted; the newest first."""
        return [_read(row) for row in await self._database.read(lambda tx: tx.rows("list_holds"))]


def _read(row: Row) -> Hold:
    id, kind, subject, reason, placed_by, placed_at, lifted_by, lifted_at = row
    return Hold(
        id=id, kind=HoldKind(kind), subject=subject, reason=reason, placed_by=placed_by,
        placed_at=clock.iso(placed_at), lifted_by=lifted_by,
        lifted_at=None if lifted_at is None else clock.iso(lifted_at),
    )  # fmt: skip
