"""Secrets of a Worker, in the ways of both wranglers: written and named here, read by the app alone, never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from conveyor.secrets import Keys, check_secret, delete_secret, put_secret, read_secrets
from conveyor.server.cloudflare.dialect import Refusal, succeed
from conveyor.server.cloudflare.scripts import files_of, find_script
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Right

NO_SECRET: Final = 10_056
BULK_MAX: Final = 1 << 20
_TYPE: Final = "secret_text"


class _Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    text: str
    type: str = _TYPE


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    name: str | None = None
    type: str = _TYPE


class _Bulk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secrets: dict[str, _Value | None]


async def list_secrets(call: Call) -> Answer:
    script = await find_script(call)
    return succeed([_show(name) for name in await read_secrets(call.store, script.name)])


async def get_secret(call: Call) -> Answer:
    """That it is there."""
    script = await find_script(call)
    if call.path["secret"] not in await read_secrets(call.store, script.name):
        raise _missing(call.path["secret"])
    return succeed(_show(call.path["secret"]))


async def put_one(call: Call) -> Answer:
    script = await find_script(call)
    given = call.decode(_Secret)
    call.target = f"{script.name}/{given.name}"
    _check_type(given.type)
    await write_secrets(call, script.name, {given.name: given.text})
    return succeed(_show(given.name))


async def delete_one(call: Call) -> Answer:
    script = await find_script(call)
    if not await delete_secret(call.store, script.name, call.path["secret"]):
        raise _missing(call.path["secret"])
    return succeed(None)


async def put_bulk(call: Call) -> Answer:
    """Written, or removed by null."""
    script = await find_script(call)
    given = call.decode(_Bulk).secrets
    for each in given.values():
        if each is not None:
            _check_type(each.type)
    await write_secrets(call, script.name, {name: None if each is None else each.text for name, each in given.items()})
    return succeed([_show(name) for name in await read_secrets(call.store, script.name)])


async def write_secrets(call: Call, app: str, texts: Mapping[str, str | None]) -> None:
    """Write those with a text and remove the others; nothing if one of them cannot be kept."""
    for name, text in texts.items():
        check_secret(name, text or "")
    keys = Keys(lambda: files_of(call))
    for name, text in texts.items():
        if text is None:
            await delete_secret(call.store, app, name)
        else:
            await put_secret(call.store, keys, app, name, text)


def _check_type(kind: str) -> None:
    if kind != _TYPE:
        raise Refusal(10_021, f"only secrets of type `{_TYPE}` are kept here")


def _show(name: str) -> dict[str, Any]:
    return {"name": name, "type": _TYPE}


def _missing(name: str) -> Refusal:
    return Refusal(NO_SECRET, f"Binding '{name[:64]}' not found.", status=404)


def _endpoint(method: str, path: str, handle: Any, right: Right, action: str | None = None, **more: Any) -> Endpoint:
    where = f"/workers/scripts/{{script}}{path}"
    return Endpoint(
        method=method, path=where, right=right, handle=handle, scope="store", action=action, content_types=(), **more
    )


ENDPOINTS: Final = (
    _endpoint("GET", "/secrets", list_secrets, Right.READ),
    _endpoint("PUT", "/secrets", put_one, Right.MANAGE, "secret.put"),
    _endpoint("PATCH", "/secrets-bulk", put_bulk, Right.MANAGE, "secret.put", body_max=BULK_MAX),
    _endpoint("GET", "/secrets/{secret:path}", get_secret, Right.READ),
    _endpoint("DELETE", "/secrets/{secret:path}", delete_one, Right.MANAGE, "secret.delete"),
)
