"""The values of a KV namespace: one by one, in bulk, and their keys. Through the same door as `app.kv(...)`, so the
limits are the same."""

from __future__ import annotations

import asyncio
import base64
import binascii
from datetime import timedelta
from typing import Any, Final

import msgspec

from conveyor.kv import KV, LIST_MAX, VALUE_BYTES_MAX, KVEntry
from conveyor.model.errors import InvalidKeyError
from conveyor.model.refusals import InvalidRequestError
from conveyor.server.cloudflare.dialect import BAD_KEY, UNPARSED, UNPARSED_WORDS, Refusal, succeed
from conveyor.server.cloudflare.multipart import is_multipart, read_parts
from conveyor.server.cloudflare.namespaces import Namespaces
from conveyor.server.endpoint import BODY_MAX, Answer, Call, Endpoint, Handle
from conveyor.server.rights import Right

VALUE_REQUEST_MAX: Final = VALUE_BYTES_MAX + 65_536
BULK_REQUEST_MAX: Final = 100 * 1_024 * 1_024
BULK_MAX: Final = 10_000
BULK_GET_MAX: Final = 100
TTL_S_MIN: Final = 60
_TOGETHER: Final = 100
"""Writes of a bulk that are under way at once; the store commits them together."""

_KEY_NOT_FOUND: Final = 10_009
_BAD_TTL: Final = 10_034
_BINARY: Final = b"application/octet-stream"


class Pair(msgspec.Struct):
    """One of a bulk. What else stands there is passed over, as wrangler expects: it warns of it, and sends it."""

    key: str
    value: str
    base64: bool = False
    expiration: int | float | None = None
    expiration_ttl: int | float | None = None
    metadata: Any = None


class BulkGetBody(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[str]
    type: str = "text"
    withMetadata: bool = False  # noqa: N815 as the wire has it


_pairs: Final = msgspec.json.Decoder(list[Pair])
_keys: Final = msgspec.json.Decoder(list[str])


class ValueDesk:
    """The endpoints of values and keys."""

    def endpoints(self) -> list[Endpoint]:
        one = "/storage/kv/namespaces/{namespace}"
        return [
            _endpoint("GET", f"{one}/values/{{key:path}}", Right.READ, show_value),
            _endpoint(
                "PUT", f"{one}/values/{{key:path}}", Right.MANAGE, put_value, "kv.put", body_max=VALUE_REQUEST_MAX
            ),
            _endpoint("DELETE", f"{one}/values/{{key:path}}", Right.MANAGE, delete_value, "kv.delete"),
            _endpoint("GET", f"{one}/metadata/{{key:path}}", Right.READ, show_metadata),
            _endpoint("GET", f"{one}/keys", Right.READ, list_keys),
            _endpoint("PUT", f"{one}/bulk", Right.MANAGE, put_bulk, "kv.put", body_max=BULK_REQUEST_MAX),
            _endpoint("DELETE", f"{one}/bulk", Right.MANAGE, delete_bulk, "kv.delete", body_max=BULK_REQUEST_MAX),
            _endpoint("POST", f"{one}/bulk/delete", Right.MANAGE, delete_bulk, "kv.delete", body_max=BULK_REQUEST_MAX),
            _endpoint("POST", f"{one}/bulk/get", Right.READ, show_bulk),
        ]


async def show_value(call: Call) -> Answer:
    """The bytes as they were put."""
    found = await _entry(call)
    headers = () if found.expires_at is None else ((b"expiration", b"%d" % found.expires_at.timestamp()),)
    return Answer(200, found.value, content_type=_BINARY, headers=headers)


async def put_value(call: Call) -> Answer:
    """The body is the value, or a form of `value` and `metadata`."""
    values = await _values(call)
    kind, value, metadata = call.header("content-type"), call.body, None
    if kind is not None and is_multipart(kind):
        parts = {part.name: part.content for part in read_parts(kind, call.body)}
        if "value" not in parts:
            raise InvalidRequestError("the form has no `value`")
        value = parts["value"]
        metadata = _read_metadata(parts.get("metadata"))
    expiration, ttl = call.query.get("expiration"), call.query.get("expiration_ttl")
    lifetime = _read_lifetime(call, _number(expiration), _number(ttl))
    await _put(values, call.path["key"], value, lifetime, metadata)
    return succeed(None)


async def delete_value(call: Call) -> Answer:
    """Whether it was there or not."""
    await (await _values(call)).delete(call.path["key"])
    return succeed(None)


async def show_metadata(call: Call) -> Answer:
    return succeed((await _entry(call)).metadata)


async def list_keys(call: Call) -> Answer:
    """By name; the cursor asks for the next page, and is empty on the last."""
    values = await _values(call)
    limit = call.query.number("limit", LIST_MAX, least=1, most=LIST_MAX)
    page = await values.list(
        prefix=call.query.get("prefix", ""), limit=limit, cursor=_read_cursor(call.query.get("cursor", ""))
    )
    keys: list[dict[str, Any]] = []
    for each in page.keys:
        shown: dict[str, Any] = {"name": each.name}
        if each.expires_at is not None:
            shown["expiration"] = int(each.expires_at.timestamp())
        if each.metadata is not None:
            shown["metadata"] = each.metadata
        keys.append(shown)
    cursor = "" if page.cursor is None else base64.urlsafe_b64encode(page.cursor.encode()).decode()
    return succeed(keys, info={"count": len(keys), "cursor": cursor})


async def put_bulk(call: Call) -> Answer:
    """All are looked at before the first is written."""
    values = await _values(call)
    pairs = _decode(_pairs, call.body)
    _check_count(len(pairs))
    ready = [
        (each.key, _read_value(each), _read_lifetime(call, each.expiration, each.expiration_ttl), each.metadata)
        for each in pairs
    ]
    for start in range(0, len(ready), _TOGETHER):
        await asyncio.gather(*(_put(values, *each) for each in ready[start : start + _TOGETHER]))
    return succeed({"successful_key_count": len(pairs), "unsuccessful_keys": []})


async def delete_bulk(call: Call) -> Answer:
    values = await _values(call)
    keys = _decode(_keys, call.body)
    _check_count(len(keys))
    for start in range(0, len(keys), _TOGETHER):
        await asyncio.gather(*(values.delete(key) for key in keys[start : start + _TOGETHER]))
    return succeed({"successful_key_count": len(keys), "unsuccessful_keys": []})


async def show_bulk(call: Call) -> Answer:
    """What is not there is null."""
    values = await _values(call)
    body = call.decode(BulkGetBody)
    if not 1 <= len(body.keys) <= BULK_GET_MAX:
        raise Refusal(UNPARSED, f"a bulk get takes 1 to {BULK_GET_MAX} keys")
    if body.type not in ("text", "json"):
        raise Refusal(UNPARSED, "type must be `text` or `json`")
    found = dict(zip(body.keys, await asyncio.gather(*map(values.get_entry, body.keys)), strict=True))
    return succeed({"values": {key: _show_entry(key, entry, body) for key, entry in found.items()}})


def _show_entry(key: str, entry: KVEntry | None, body: BulkGetBody) -> Any:
    if entry is None:
        return None
    try:
        value = entry.value.decode() if body.type == "text" else msgspec.json.decode(entry.value)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise Refusal(UNPARSED, f"the value of `{key[:64]}` is no {body.type}") from error
    return {"value": value, "metadata": entry.metadata} if body.withMetadata else value


async def _values(call: Call) -> KV:
    namespace = await Namespaces(call.store).find(call.path["namespace"])
    return KV(call.store, _is_open, namespace.title)


async def _is_open() -> None:
    """A server's store is."""


async def _entry(call: Call) -> KVEntry:
    found = await (await _values(call)).get_entry(call.path["key"])
    if found is None:
        raise Refusal(_KEY_NOT_FOUND, "get: 'key not found'", status=404)
    return found


async def _put(values: KV, key: str, value: bytes, lifetime: timedelta | None, metadata: object) -> None:
    try:
        await values.put(key, value, ttl=lifetime, metadata=metadata)
    except InvalidKeyError as error:
        raise Refusal(BAD_KEY, error.message) from error


def _read_lifetime(call: Call, expiration: float | None, ttl: float | None) -> timedelta | None:
    """Until a moment in seconds since the epoch, or for so many seconds, which win."""
    if ttl is None and expiration is not None:
        ttl = expiration - call.store.clock.now_ms() / 1000
        if ttl < TTL_S_MIN:
            words = f"Invalid expiration of {expiration:.0f}. Please specify integer greater than the current number"
            raise Refusal(_BAD_TTL, f"{words} of seconds since the UNIX epoch, by {TTL_S_MIN} at least.")
    if ttl is None:
        return None
    if not TTL_S_MIN <= ttl <= 10**9:
        raise Refusal(_BAD_TTL, f"Invalid expiration_ttl of {ttl:.0f}. Expiration TTL must be at least {TTL_S_MIN}.")
    return timedelta(seconds=ttl)


def _number(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Refusal(_BAD_TTL, f"Invalid expiration of {text[:32]}. Please specify an integer.")
    return int(text)


def _read_value(pair: Pair) -> bytes:
    if not pair.base64:
        return pair.value.encode()
    try:
        return base64.b64decode(pair.value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(UNPARSED, f"the value of `{pair.key[:64]}` is no base64") from error


def _read_metadata(content: bytes | None) -> Any:
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(UNPARSED, "`metadata` is not JSON") from error


def _read_cursor(text: str) -> str | None:
    if not text:
        return None
    try:
        return base64.urlsafe_b64decode(text.encode()).decode()
    except ValueError as error:
        raise Refusal(UNPARSED, "`cursor` is none that was given here") from error


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Larger than what a `Call` decodes, and flat."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(UNPARSED, f"{UNPARSED_WORDS} ({error})") from error


def _check_count(count: int) -> None:
    if count > BULK_MAX:
        raise Refusal(UNPARSED, f"a bulk takes {BULK_MAX:,} keys at most")


def _endpoint(
    method: str, path: str, right: Right, handle: Handle, action: str | None = None, *, body_max: int = BODY_MAX
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        right=right,
        handle=handle,
        action=action,
        scope="store",
        body_max=body_max,
        content_types=(),
    )
