"""Addresses that nothing more is sent to: they complained, bounced for good, unsubscribed, or somebody here said so.

A provider's word puts one on the list in the transaction that writes down what became of its message; from then on a
message to it ends before anybody is asked to carry it. Only people take one off again.
"""

import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from conveyor_apps.tables import Database, Row, Transaction

from . import clock
from .audit import Trail, Who
from .errors import FieldError, Reason, RefusedError
from .jobs import check_email, check_phone
from .records import Message
from .sensitive import Sensitive, veiled
from .words import Channel

NOTE_CHARS_MAX: Final = 300


class Cause(StrEnum):
    """Why nothing is sent there."""

    BOUNCED = "bounced"
    """There is no such mailbox or number."""
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    ASKED = "asked"
    """The recipient told somebody of the staff."""


@veiled
class Suppression(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One of them."""

    id: str
    channel: Channel
    recipient: Sensitive
    cause: Cause
    message: str | None
    """The id of the message that it came by."""
    note: Sensitive
    placed_by: str
    placed_at: str
    lifted_by: str | None = None
    lifted_at: str | None = None


class Suppressions:
    """All of them."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    async def add(self, who: Who, channel: Channel, recipient: str, note: str = "") -> str:
        """Its id, also if it was there already. `FieldError`."""
        check = check_email if channel is Channel.EMAIL else check_phone
        check("recipient", recipient)
        if len(note) > NOTE_CHARS_MAX or not note.isprintable():
            raise FieldError("note", f"must be one line of at most {NOTE_CHARS_MAX} characters")
        values = {"channel": channel, "recipient": recipient, "cause": Cause.ASKED, "message": None, "note": note}
        return await self._database.write(lambda tx: _add(tx, self._trail, who, values))

    async def lift(self, who: Who, id: str) -> None:
        """Messages go there again. `RefusedError` with 404."""

        def work(tx: Transaction) -> None:
            if not tx.change("lift_suppression", id=id, by=who.name):
                raise RefusedError("There is no such suppression, or it was lifted before.", status=404)
            self._trail.write(tx, who, "suppression.lifted", id)

        await self._database.write(work)

    async def page(self, at: int, id: str, limit: int, *, recipient: str | None = None) -> list[Suppression]:
        """Those placed before that moment and id, the newest first, those that were lifted too; of one address, or
        all."""
        wanted = None if recipient is None else plain(recipient)

        def work(tx: Transaction) -> list[Row]:
            return tx.rows("suppressions", at=at, id=id, limit=limit, recipient=wanted)

        return [_read(row) for row in await self._database.read(work)]


def suppress(tx: Transaction, trail: Trail, who: Who, message: Message, cause: Cause) -> None:
    """Put the recipient of this message on the list, in the transaction of whoever says so."""
    values = {
        "channel": message.channel, "recipient": message.recipient, "cause": cause, "message": message.id, "note": "",
    }  # fmt: skip
    _add(tx, trail, who, values)


def cause_of(reason: Reason) -> Cause:
    """Why a refusal for good puts an address on the list."""
    return Cause.UNSUBSCRIBED if reason is Reason.UNSUBSCRIBED else Cause.BOUNCED


def suppressed(tx: Transaction, message: Message) -> Cause | None:
    """Why nothing may be sent to its recipient; None if it may."""
    rows = tx.rows("find_suppression", channel=message.channel, recipient=plain(message.recipient))
    return Cause(rows[0][1]) if rows else None


def plain(recipient: str) -> str:
    """One spelling of an address: no mailbox is two people for its capitals."""
    return recipient.strip().casefold()


def _add(tx: Transaction, trail: Trail, who: Who, values: Mapping[str, str | None]) -> str:
    place = {"channel": values["channel"], "recipient": plain(values["recipient"] or "")}
    there = tx.rows("find_suppression", **place)
    if there:
        return str(there[0][0])
    id = secrets.token_hex(8)
    tx.change("add_suppression", id=id, by=who.name, **{**values, **place})
    trail.write(tx, who, "suppression.placed", id)
    return id


def _read(row: Row) -> Suppression:
    id, channel, recipient, cause, message, note, placed_by, placed_at, lifted_by, lifted_at = row
    return Suppression(
        id=id, channel=Channel(channel), recipient=recipient, cause=Cause(cause), message=message, note=note,
        placed_by=placed_by, placed_at=clock.iso(placed_at), lifted_by=lifted_by,
        lifted_at=None if lifted_at is None else clock.iso(lifted_at),
    )  # fmt: skip
