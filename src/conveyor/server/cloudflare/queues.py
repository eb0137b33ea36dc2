"""Queues: made, listed, looked at, changed, paused and resumed, purged, deleted; and their counters."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.settings import RETENTION_MS_MAX, RETENTION_MS_MIN, QueueSettings
from conveyor.queue.admin import Queues
from conveyor.server.cloudflare.consumers import show_consumer
from conveyor.server.cloudflare.dialect import Jurisdiction, Refusal, moment, succeed
from conveyor.server.cloudflare.directory import Directory, Known
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle
from conveyor.server.rights import Right
from conveyor.store.records import Document
from conveyor.subscriptions import rename_queue

PER_PAGE: Final = 100
QUEUES_MAX: Final = 10_000
"""In an account of the original's."""
PURGES: Final = "purge"
"""Kind of the documents that say when a queue was purged last."""
JURISDICTIONS: Final = "queue_jurisdiction"
"""Kind of the documents that say what jurisdiction a queue was made with."""

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME_INVALID: Final = 11_003
_SETTINGS_INVALID: Final = 100_128
_NOT_CONFIRMED: Final = 10_026
_DEFAULTS: Final = QueueSettings()


class QueueTerms(msgspec.Struct, forbid_unknown_fields=True):
    """`settings` on this wire; None: not said."""

    delivery_delay: int | float | None = None
    delivery_paused: bool | None = None
    message_retention_period: int | float | None = None

    def apply(self, settings: QueueSettings) -> QueueSettings:
        """What is said replaces what was there. `Refusal`."""
        delay_ms, retention_ms = settings.delivery_delay_ms, settings.retention_ms
        if self.delivery_delay is not None:
            delay_ms = _read_seconds("delivery_delay", self.delivery_delay, 0, DELAY_MS_MAX)
        if self.message_retention_period is not None:
            retention_ms = _read_seconds(
                "message_retention_period", self.message_retention_period, RETENTION_MS_MIN, RETENTION_MS_MAX
            )
        return replace(settings, delivery_delay_ms=delay_ms, retention_ms=retention_ms)


class QueueBody(msgspec.Struct, forbid_unknown_fields=True):
    """Of a POST, PUT or PATCH. The jurisdiction is that of a POST."""

    queue_name: str | None = None
    settings: QueueTerms | None = None
    jurisdiction: Jurisdiction | None = None


class PurgeBody(msgspec.Struct, forbid_unknown_fields=True):
    delete_messages_permanently: bool = False


class QueueDesk:
    """The endpoints of queues themselves."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def endpoints(self) -> list[Endpoint]:
        one = "/queues/{queue}"
        return [
            _endpoint("GET", "/queues", Right.READ, self.list),
            _endpoint("POST", "/queues", Right.MANAGE, self.create, "queue.create"),
            _endpoint("GET", one, Right.READ, self.show),
            _endpoint("PUT", one, Right.MANAGE, self.replace, "queue.update"),
            _endpoint("PATCH", one, Right.MANAGE, self.merge, "queue.update"),
            _endpoint("DELETE", one, Right.MANAGE, self.delete, "queue.delete"),
            _endpoint("POST", f"{one}/purge", Right.MANAGE, self.purge, "queue.purge"),
            _endpoint("GET", f"{one}/purge", Right.READ, self.show_purge),
        ]

    async def list(self, call: Call) -> Answer:
        """Those that the caller may see; `name`, as often as one likes, gives these alone."""
        names = frozenset(call.query.all("name"))
        found = [
            each
            for each in await self._directory.list(call.store)
            if call.caller.may(Right.READ, each.name) and (not names or each.name in names)
        ]
        items, info = read_page(call, found, per_page=PER_PAGE)
        where = {each.name: each for each in await call.store.list_documents(JURISDICTIONS, limit=QUEUES_MAX)}
        return succeed([show_queue(each, where.get(each.id)) for each in items], info=info)

    async def create(self, call: Call) -> Answer:
        body = call.decode(QueueBody)
        name = body.queue_name or ""
        call.target = name[:64]
        call.require(Right.MANAGE, name)
        _check_name(name)
        terms = body.settings or QueueTerms()
        queues = Queues(call.store)
        info = await queues.create(name, terms.apply(_DEFAULTS))
        if terms.delivery_paused:
            await queues.pause(name)
            info = await queues.info(name)
        known = self._directory.note(call.store, info)
        if body.jurisdiction is not None:
            await call.store.put_document(JURISDICTIONS, known.id, msgspec.json.encode(body.jurisdiction))
        return await _tell(call, known)

    async def show(self, call: Call) -> Answer:
        return await _tell(call, await self._directory.find(call, Right.READ))

    async def merge(self, call: Call) -> Answer:
        """What is said changes, the rest stays."""
        known = await self._directory.find(call, Right.MANAGE)
        body = call.decode(QueueBody)
        terms = body.settings or QueueTerms()
        changed = terms.apply(known.info.settings)
        known = await self._rename(call, known, body.queue_name)
        return await self._change(call, known, changed, paused=terms.delivery_paused)

    async def replace(self, call: Call) -> Answer:
        """What is not said is as at the start, but for what this wire has no words for."""
        known = await self._directory.find(call, Right.MANAGE)
        body = call.decode(QueueBody)
        terms = body.settings or QueueTerms()
        bare = replace(
            known.info.settings, delivery_delay_ms=_DEFAULTS.delivery_delay_ms, retention_ms=_DEFAULTS.retention_ms
        )
        changed = terms.apply(bare)
        known = await self._rename(call, known, body.queue_name)
        return await self._change(call, known, changed, paused=bool(terms.delivery_paused))

    async def _rename(self, call: Call, known: Known, name: str | None) -> Known:
        """Whoever renames must be allowed to manage a queue of either name. `Refusal`, `QueueExistsError`."""
        if name in (None, known.name):
            return known
        assert name is not None
        call.require(Right.MANAGE, name)
        _check_name(name)
        return self._directory.note(call.store, await rename_queue(call.store, known.name, name))

    async def _change(self, call: Call, known: Known, settings: QueueSettings, *, paused: bool | None) -> Answer:
        queues = Queues(call.store)
        if settings != known.info.settings:
            await queues.update(known.name, settings)
        if paused is not None:
            await (queues.pause(known.name) if paused else queues.resume(known.name))
        return await _tell(call, self._directory.note(call.store, await queues.info(known.name)))

    async def delete(self, call: Call) -> Answer:
        known = await self._directory.find(call, Right.MANAGE)
        await Queues(call.store).delete(known.name)
        for kind in (PURGES, JURISDICTIONS):
            await call.store.delete_document(kind, known.id)
        self._directory.forget(known)
        return succeed(None)

    async def purge(self, call: Call) -> Answer:
        known = await self._directory.find(call, Right.MANAGE)
        if not call.decode(PurgeBody).delete_messages_permanently:
            raise Refusal(_NOT_CONFIRMED, "`delete_messages_permanently` must be true")
        started = moment(call.store.clock.now_ms())
        await Queues(call.store).purge(known.name)
        done = {"started_at": started, "completed": moment(call.store.clock.now_ms())}
        await call.store.put_document(PURGES, known.id, msgspec.json.encode(done))
        return await _tell(call, known)

    async def show_purge(self, call: Call) -> Answer:
        """Of the last one; a purge is over when it is answered."""
        known = await self._directory.find(call, Right.READ)
        found = await call.store.get_document(PURGES, known.id)
        nothing = {"started_at": "", "completed": ""}
        return succeed(nothing if found is None else msgspec.json.decode(found.body))


async def _tell(call: Call, known: Known) -> Answer:
    return succeed(show_queue(known, await call.store.get_document(JURISDICTIONS, known.id)))


def show_queue(known: Known, jurisdiction: Document | None) -> dict[str, Any]:
    """A queue as clients read it; wrangler shows a column more as soon as one of them names its jurisdiction."""
    info = known.info
    consumers = [] if info.consumer is None else [show_consumer(info, info.consumer)]
    where = {} if jurisdiction is None else {"jurisdiction": msgspec.json.decode(jurisdiction.body)}
    return {
        **where,
        "queue_id": known.id,
        "queue_name": info.name,
        "created_on": moment(info.created_at),
        "modified_on": moment(info.modified_at),
        "producers_total_count": 0,
        "producers": [],
        "consumers_total_count": len(consumers),
        "consumers": consumers,
        "settings": {
            "delivery_delay": info.settings.delivery_delay_ms // 1000,
            "delivery_paused": info.paused,
            "message_retention_period": info.settings.retention_ms // 1000,
        },
    }


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        words = f"Queue name '{name[:64]}' is invalid: invalid queue name: {name[:64]}. Must match ^{_NAME.pattern}$."
        raise Refusal(_NAME_INVALID, words)


def _read_seconds(name: str, value: float, least_ms: int, most_ms: int) -> int:
    if not least_ms <= value * 1000 <= most_ms or value != int(value):
        words = f"`{name}` must be a whole number from {least_ms // 1000:,} to {most_ms // 1000:,}"
        raise Refusal(_SETTINGS_INVALID, words)
    return int(value) * 1000


def _endpoint(method: str, path: str, right: Right, handle: Handle, action: str | None = None) -> Endpoint:
    return Endpoint(method=method, path=path, right=right, handle=handle, action=action, content_types=())
