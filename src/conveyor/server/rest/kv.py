"""Named values in namespaces."""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Any, Final

from msgspec import Meta

from conveyor.kv import KV, TTL_MS_MAX, VALUE_BYTES_MAX, KVKey
from conveyor.model.errors import NotFoundError
from conveyor.model.refusals import InvalidRequestError
from conveyor.model.settings import check_name
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import read_cursor, write_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told
from conveyor.server.rights import Right

ENTRY_BYTES_MAX: Final = VALUE_BYTES_MAX * 4 // 3 + 65_536
"""A value in base64, and what stands around it."""


class Encoding(StrEnum):
    """How a value is written in JSON."""

    TEXT = "text"
    BASE64 = "base64"


class KeysAsked(PageAsked, frozen=True, kw_only=True):
    """Which keys, and which part of their list."""

    prefix: Annotated[str, Meta(max_length=512)] = ""


class KeyShown(Told, frozen=True, kw_only=True):
    """A key, as a list shows it."""

    key: str
    expires_at: Moment | None
    metadata: Any


class Entry(Asked, frozen=True, kw_only=True):
    """A value to be kept."""

    value: str
    encoding: Encoding = Encoding.TEXT
    ttl_ms: Annotated[int, Meta(ge=1, le=TTL_MS_MAX)] | None = None
    """It is gone after that time."""
    metadata: Any = None
    """Small JSON."""


class EntryShown(Told, frozen=True, kw_only=True):
    """A value: as text if it is UTF-8, else in base64."""

    key: str
    value: str
    encoding: Encoding
    expires_at: Moment | None
    metadata: Any


async def list_keys(call: Call) -> Answer:
    """Keys of a namespace, in the order of their UTF-8 bytes."""
    kv = _kv(call)
    asked = read_query(call, KeysAsked)
    of = f"keys of {kv.namespace} {asked.prefix}"
    found = await kv.list(prefix=asked.prefix, limit=asked.limit, cursor=read_cursor(of, asked.cursor, str))
    cursor = None if found.cursor is None else write_cursor(of, found.cursor)
    return Answer.json(Page(items=[_show_key(each) for each in found.keys], next_cursor=cursor))


async def get_value(call: Call) -> Answer:
    """A value with its metadata."""
    key = call.path["key"]
    entry = await _kv(call).get_entry(key)
    if entry is None:
        raise NotFoundError(f"nothing is kept under `{key}`")
    try:
        value, encoding = entry.value.decode(), Encoding.TEXT
    except UnicodeDecodeError:
        value, encoding = base64.b64encode(entry.value).decode(), Encoding.BASE64
    shown = EntryShown(key=key, value=value, encoding=encoding, expires_at=entry.expires_at, metadata=entry.metadata)
    return Answer.json(shown)


async def put_value(call: Call) -> Answer:
    """Keep a value, whatever was there before."""
    kv = _kv(call)
    asked = call.decode(Entry)
    ttl = None if asked.ttl_ms is None else asked.ttl_ms / 1000
    await kv.put(call.path["key"], _read_value(asked), ttl=ttl, metadata=asked.metadata)
    return Answer(204)


async def delete_value(call: Call) -> Answer:
    """Delete a value; 204 also if there was none."""
    await _kv(call).delete(call.path["key"])
    return Answer(204)


def _kv(call: Call) -> KV:
    namespace = call.path["namespace"]
    check_name("namespace", namespace)
    return KV(call.store, _is_open, namespace)


async def _is_open() -> None:
    """The server has opened its store before it answers."""


def _read_value(asked: Entry) -> str | bytes:
    if asked.encoding is Encoding.TEXT:
        return asked.value
    try:
        return base64.b64decode(asked.value, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequestError("`value` is not base64", status=422) from None


def _show_key(key: KVKey) -> KeyShown:
    return KeyShown(key=key.name, expires_at=key.expires_at, metadata=key.metadata)


OPERATIONS: Final = (
    Operation(
        method="GET", path="/kv/{namespace}/keys", right=Right.READ, scope="store", handle=list_keys, query=KeysAsked,
        gives=Page[KeyShown],
    ),
    Operation(
        method="GET", path="/kv/{namespace}/values/{key:path}", right=Right.READ, scope="store", handle=get_value,
        gives=EntryShown,
    ),
    Operation(
        method="PUT", path="/kv/{namespace}/values/{key:path}", right=Right.MANAGE, scope="store", handle=put_value,
        action="kv.put", takes=Entry, body_max=ENTRY_BYTES_MAX,
    ),
    Operation(
        method="DELETE", path="/kv/{namespace}/values/{key:path}", right=Right.MANAGE, scope="store",
        handle=delete_value, action="kv.delete",
    ),
)  # fmt: skip
