"""HTTP for what is kept: exports, cleanups, legal holds, the audit trail."""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from . import clock
from .answers import answer, number_in, read_json
from .cleanup import preview_cleanup
from .cleanup.holds import HoldKind
from .entry import Address, address_of
from .errors import FieldError, RefusedError
from .exports import Export, Rows, Selection, check_filters, make_link
from .inbox import read_cursor, write_cursor
from .jobs import CleanupJob, ExportJob
from .people import Person
from .rights import RIGHTS, Right
from .room import Room
from .words import Format, Target

PAGE = 50
PAGE_MAX = 200
HEAD_CHARS_MAX = 100


class NewExport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/exports`."""

    filters: dict[str, Any]
    format: Format


class NewCleanup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /api/cleanups` and of its preview."""

    target: Target
    older_than: str


class NewHold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/holds`."""

    kind: HoldKind
    subject: str = ""
    reason: str


def shown_export(export: Export) -> dict[str, Any]:
    """As people see it."""
    return {
        "id": export.id, "user": export.user, "filters": msgspec.Raw(export.filters.encode()),
        "format": export.format, "state": export.state, "rowsDone": export.rows_done, "rowsTotal": export.rows_total,
        "bytes": export.bytes, "sha256": export.sha256, "error": export.error,
        "createdAt": clock.iso(export.created_at), "endedAt": clock.iso(export.ended_at) if export.ended_at else None,
        "expiresAt": clock.iso(export.expires_at) if export.expires_at else None,
    }  # fmt: skip


class RecordDesk:
    """Answers calls about what is kept."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room

    def addresses(self) -> list[Address]:
        """All of them."""
        return [
            Address("GET", "/api/exports", Right.EXPORT, self.exports),
            Address("POST", "/api/exports", Right.EXPORT, self.add_export),
            Address("GET", "/api/exports/{export}", Right.EXPORT, self.export),
            Address("POST", "/api/exports/{export}/link", Right.EXPORT, self.link),
            Address("POST", "/api/exports/{export}/cancel", Right.EXPORT, self.cancel_export),
            Address("POST", "/api/cleanups", Right.CLEAN, self.clean),
            Address("POST", "/api/cleanups/preview", Right.CLEAN, self.preview),
            Address("GET", "/api/holds", Right.AUDIT, self.holds),
            Address("POST", "/api/holds", Right.CLEAN, self.hold),
            Address("POST", "/api/holds/{hold}/lift", Right.CLEAN, self.lift),
            Address("GET", "/api/audit", Right.AUDIT, self.audit),
            Address("GET", "/api/audit/verify", Right.AUDIT, self.verify),
        ]

    async def exports(self, request: Request, person: Person) -> Response:
        """A page of them, the newest first, with their progress."""
        limit = number_in(request, "limit", PAGE, least=1, most=PAGE_MAX)
        at, id = read_cursor(request.query_params.get("cursor"))
        found = await self._room().exports.page(at, id, limit + 1)
        more = len(found) > limit
        last = write_cursor(found[limit - 1].created_at, found[limit - 1].id) if more else None
        return answer({"items": [shown_export(each) for each in found[:limit]], "next": last})

    async def add_export(self, request: Request, person: Person) -> Response:
        """One more; 202."""
        new: NewExport = await read_json(request, NewExport)
        _check_rows(person, check_filters(new.filters))
        id = f"export-{secrets.token_hex(8)}"
        job = ExportJob(export_id=id, filters=new.filters, user_id=person.name, format=new.format)
        await self._room().producer.enqueue_export(job, who=person.at(address_of(request)))
        return answer(shown_export(await self._need(id)), status=202)

    async def export(self, request: Request, person: Person) -> Response:
        """One as it stands."""
        return answer(shown_export(await self._need(request.path_params["export"])))

    async def link(self, request: Request, person: Person) -> Response:
        """Where its file is to be had, for a while."""
        room = self._room()
        export = await self._need(request.path_params["export"])
        _check_rows(person, check_filters(msgspec.json.decode(export.filters)))
        link = await make_link(room.context(), export.id, person.at(address_of(request)))
        return answer(
            {"url": link.url, "expiresAt": clock.iso(link.expires_at), "sha256": link.sha256, "size": link.size}
        )

    async def cancel_export(self, request: Request, person: Person) -> Response:
        """It is not written to its end."""
        export = await self._need(request.path_params["export"])
        if not await self._room().exports.cancel(export.id, person.at(address_of(request))):
            raise RefusedError(f"The export is {export.state}.", status=409)
        return answer(shown_export(await self._need(export.id)))

    async def clean(self, request: Request, person: Person) -> Response:
        """Through the queue; 202."""
        new: NewCleanup = await read_json(request, NewCleanup)
        job = CleanupJob(target=new.target, older_than=new.older_than)
        await self._room().producer.enqueue_cleanup(job, who=person.at(address_of(request)))
        return answer({"target": job.target, "olderThan": job.older_than}, status=202)

    async def preview(self, request: Request, person: Person) -> Response:
        """What would go now, and what is held."""
        new: NewCleanup = await read_json(request, NewCleanup)
        job = CleanupJob(target=new.target, older_than=new.older_than)
        job.check()
        return answer(await preview_cleanup(job, self._room().context()))

    async def holds(self, request: Request, person: Person) -> Response:
        """All legal holds; that they were read is recorded. An address only for those who may read addresses."""
        await self._room().trail.record(person.at(address_of(request)), "hold.list", "holds")
        found = await self._room().holds.list()
        if Right.READ not in RIGHTS[person.role]:
            found = [
                msgspec.structs.replace(each, subject="") if each.kind is HoldKind.RECIPIENT else each for each in found
            ]
        return answer({"items": found})

    async def hold(self, request: Request, person: Person) -> Response:
        """One more; 201."""
        new: NewHold = await read_json(request, NewHold)
        id = await self._room().holds.place(person.at(address_of(request)), new.kind, new.subject, new.reason)
        return answer({"id": id}, status=201)

    async def lift(self, request: Request, person: Person) -> Response:
        """What it held may go; 204."""
        await self._room().holds.lift(person.at(address_of(request)), request.path_params["hold"])
        return Response(status_code=204)

    async def audit(self, request: Request, person: Person) -> Response:
        """A page of the trail, the newest first; that it was looked at is part of it."""
        limit = number_in(request, "limit", PAGE, least=1, most=PAGE_MAX)
        before = number_in(request, "before", 2**53, least=1, most=2**53)
        since = request.query_params.get("since")
        try:
            since_ms = clock.read_iso(since) if since else None
        except ValueError:
            raise FieldError("since", "must be an ISO moment") from None
        trail, query = self._room().trail, request.query_params
        await trail.record(person.at(address_of(request)), "audit.read", "trail")
        records = await trail.page(
            limit=limit, before=before, actor=query.get("actor"), action=query.get("action"),
            target=query.get("target"), since=since_ms,
        )  # fmt: skip
        return answer({"items": records, "next": records[-1].number if len(records) == limit else None})

    async def verify(self, request: Request, person: Person) -> Response:
        """Read the whole trail, and say what is not as it was written."""
        expected = request.query_params.get("expected")
        if expected is not None and not _is_head(expected):
            raise FieldError("expected", "must be `NUMBER:HASH`, as an earlier answer had it")
        examined = await self._room().trail.verify(expected=expected)
        await self._room().trail.record(person.at(address_of(request)), "audit.verify", "trail")
        return answer(examined)

    async def _need(self, export: str) -> Export:
        found = await self._room().exports.find(export)
        if found is None:
            raise RefusedError("There is no such export.", status=404)
        return found


def _check_rows(person: Person, selection: Selection) -> None:
    """`RefusedError` if the file holds what this person may not read."""
    if selection.dataset is Rows.MESSAGES and Right.READ not in RIGHTS[person.role]:
        raise RefusedError(f"As {person.role} you may not read messages.", status=403)


def _is_head(text: str) -> bool:
    number, _, sealed = text.partition(":")
    return len(text) <= HEAD_CHARS_MAX and number.isascii() and number.isdigit() and bool(sealed)
