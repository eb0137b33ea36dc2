"""KV namespaces: made, listed, renamed, deleted; and what happens to them is told to who subscribed."""

from __future__ import annotations

from typing import Any

import msgspec

from conveyor.server.cloudflare.dialect import Jurisdiction, succeed
from conveyor.server.cloudflare.namespaces import Namespace, Namespaces
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.cloudflare.subscriptions import SubscriptionDesk
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle
from conveyor.server.rights import Right

PER_PAGE = 20


class TitleBody(msgspec.Struct, forbid_unknown_fields=True):
    """Of a POST or PUT. Every namespace is read at once here, so the mode says nothing."""

    title: str
    jurisdiction: Jurisdiction | None = None
    mode: str | None = None


class NamespaceDesk:
    """The endpoints of namespaces."""

    def __init__(self, subscriptions: SubscriptionDesk) -> None:
        self._subscriptions = subscriptions

    def endpoints(self) -> list[Endpoint]:
        all_, one = "/storage/kv/namespaces", "/storage/kv/namespaces/{namespace}"
        return [
            _endpoint("GET", all_, Right.READ, self.list),
            _endpoint("POST", all_, Right.MANAGE, self.create, "kv.namespace.create"),
            _endpoint("GET", one, Right.READ, self.show),
            _endpoint("PUT", one, Right.MANAGE, self.rename, "kv.namespace.rename"),
            _endpoint("DELETE", one, Right.MANAGE, self.delete, "kv.namespace.delete"),
        ]

    async def list(self, call: Call) -> Answer:
        found = await Namespaces(call.store).list()
        by_id = call.query.get("order") == "id"
        found.sort(key=lambda each: each.id if by_id else each.title, reverse=call.query.get("direction") == "desc")
        items, info = read_page(call, found, per_page=PER_PAGE)
        return succeed([_show(each) for each in items], info=info)

    async def create(self, call: Call) -> Answer:
        body = call.decode(TitleBody)
        made = await Namespaces(call.store).create(body.title, body.jurisdiction)
        call.target = made.id
        await self._subscriptions.announce(call, "kv", "namespace.created", {"id": made.id, "name": made.title})
        return succeed(_show(made))

    async def show(self, call: Call) -> Answer:
        return succeed(_show(await Namespaces(call.store).find(call.path["namespace"])))

    async def rename(self, call: Call) -> Answer:
        namespaces = Namespaces(call.store)
        present = await namespaces.find(call.path["namespace"])
        return succeed(_show(await namespaces.rename(present, call.decode(TitleBody).title)))

    async def delete(self, call: Call) -> Answer:
        namespaces = Namespaces(call.store)
        present = await namespaces.find(call.path["namespace"])
        await namespaces.delete(present)
        await self._subscriptions.announce(call, "kv", "namespace.deleted", {"id": present.id, "name": present.title})
        return succeed(None)


def _show(namespace: Namespace) -> dict[str, Any]:
    shown = {"id": namespace.id, "title": namespace.title, "supports_url_encoding": True}
    return shown if namespace.jurisdiction is None else {**shown, "jurisdiction": namespace.jurisdiction}


def _endpoint(method: str, path: str, right: Right, handle: Handle, action: str | None = None) -> Endpoint:
    return Endpoint(
        method=method, path=path, right=right, handle=handle, action=action, scope="store", content_types=()
    )
