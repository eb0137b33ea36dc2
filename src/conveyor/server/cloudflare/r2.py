"""R2 on Cloudflare's wire: buckets, and objects as raw bytes. They are those of `app.bucket(...)`."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from conveyor.blobs.bucket import Bucket
from conveyor.blobs.files import BUCKETS, delete_bucket, make_bucket
from conveyor.blobs.model import CONTENT_TYPE, BlobInfo
from conveyor.model.errors import ConflictError, InvalidKeyError, NotFoundError
from conveyor.server.cloudflare.dialect import Refusal, moment, succeed
from conveyor.server.cloudflare.subscriptions import SubscriptionDesk
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.objects import bucket_of, is_remote, remote_names, serve_object
from conveyor.server.rights import Right

EXISTS: Final = 10_004
BAD_NAME: Final = 10_005
NO_BUCKET: Final = 10_006
NO_OBJECT: Final = 10_007
NOT_EMPTY: Final = 10_008
BAD_KEY: Final = 10_020
UPLOAD_MAX: Final = 315 * 1024 * 1024
"""Of one request, as `wrangler r2 object put` has it. `app.bucket(...).put` takes larger ones."""
PAGE_MAX: Final = 1_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class _Draft(msgspec.Struct, frozen=True):
    name: str


class _Found(msgspec.Struct, frozen=True):
    name: str
    created_at: int | None
    """None: it lies behind a URL, and was made elsewhere."""


async def list_buckets(call: Call) -> Answer:
    size = call.query.number("per_page", PAGE_MAX, least=1, most=PAGE_MAX)
    part = call.query.get("name_contains", "")
    after = call.query.get("cursor") or call.query.get("start_after")
    found = [
        _Found(each.name, each.created_at)
        for each in await call.store.list_documents(BUCKETS, limit=PAGE_MAX + 1, after=after)
        if not is_remote(call, each.name)
    ]
    found += [_Found(name, None) for name in remote_names(call) if name > (after or "")]
    matching = [each for each in sorted(found, key=lambda each: each.name) if part in each.name]
    info = {"per_page": size, "cursor": matching[size - 1].name} if len(matching) > size else {}
    return succeed({"buckets": [_show(each) for each in matching[:size]]}, info=info)


class BucketDesk:
    """Makes and deletes buckets, and tells of it."""

    def __init__(self, subscriptions: SubscriptionDesk) -> None:
        self._subscriptions = subscriptions

    def endpoints(self) -> list[Endpoint]:
        return [
            *_ENDPOINTS,
            _endpoint("POST", "", self.create, Right.MANAGE, "bucket.create"),
            _endpoint("DELETE", "/{bucket}", self.delete, Right.MANAGE, "bucket.delete"),
        ]

    async def create(self, call: Call) -> Answer:
        name = call.target = call.decode(_Draft).name
        if _NAME.fullmatch(name) is None:
            raise Refusal(BAD_NAME, "The specified bucket name is not valid.")
        try:
            if is_remote(call, name):
                raise ConflictError(name)
            made = await make_bucket(call.store, name)
        except ConflictError as error:
            words = "The bucket you tried to create already exists, and you own it."
            raise Refusal(EXISTS, words, status=409) from error
        await self._subscriptions.announce(call, "r2", "bucket.created", {"name": name})
        return succeed(_show(_Found(made.name, made.created_at)))

    async def delete(self, call: Call) -> Answer:
        found = await _find(call)
        if found.created_at is None:
            words = f"The bucket {found.name} lies behind a URL of this app's settings: delete it there."
            raise Refusal(NOT_EMPTY, words, status=409)
        try:
            await delete_bucket(call.store, found.name)
        except ConflictError as error:
            words = f"The bucket you tried to delete ({found.name}) is not empty"
            raise Refusal(NOT_EMPTY, words, status=409) from error
        await self._subscriptions.announce(call, "r2", "bucket.deleted", {"name": found.name})
        return succeed({})


async def get_bucket(call: Call) -> Answer:
    return succeed(_show(await _find(call)))


async def list_objects(call: Call) -> Answer:
    bucket = await _bucket(call)
    size = call.query.number("per_page", PAGE_MAX, least=1, most=PAGE_MAX)
    cursor = call.query.get("cursor") or call.query.get("start_after") or None
    try:
        page = await bucket.list(prefix=call.query.get("prefix", ""), limit=size, cursor=cursor)
    except InvalidKeyError as error:
        raise Refusal(BAD_KEY, f"The prefix or cursor is not valid. ({error})") from error
    info: dict[str, Any] = {"per_page": size, "is_truncated": not page.list_complete}
    if page.cursor is not None:
        info["cursor"] = page.cursor
    return succeed([_show_object(each) for each in page.objects], info=info)


async def put_object(call: Call) -> Answer:
    bucket = await _bucket(call)
    kind = call.header("content-type") or CONTENT_TYPE
    assert call.pieces is not None
    try:
        info = await bucket.put(call.path["key"], call.pieces, content_type=kind)
    except InvalidKeyError as error:
        raise Refusal(BAD_KEY, f"The specified object name is not valid. ({error})") from error
    shown = _show_object(info)
    return succeed({**shown, "size": str(info.size), "uploaded": shown["last_modified"]})


async def get_object(call: Call) -> Answer:
    """The bytes, as a download: whatever they say they are, no browser shows them here."""
    bucket = await _bucket(call)
    try:
        return await serve_object(call, bucket, call.path["key"])
    except (NotFoundError, InvalidKeyError) as error:
        raise Refusal(NO_OBJECT, "The specified key does not exist.", status=404) from error


async def delete_object(call: Call) -> Answer:
    """Of no effect if it is not there, as in R2."""
    bucket = await _bucket(call)
    try:
        await bucket.delete(call.path["key"])
    except InvalidKeyError as error:
        raise Refusal(BAD_KEY, f"The specified object name is not valid. ({error})") from error
    return succeed({"key": call.path["key"]})


async def answer_graphql(_call: Call) -> Answer:
    """There are no analytics; this is as much as `d1 info` and `r2 bucket info` need."""
    return Answer.json({"data": {"viewer": {"accounts": [{}]}}, "errors": None})


async def _find(call: Call) -> _Found:
    name = call.path["bucket"]
    if is_remote(call, name):
        return _Found(name, None)
    found = await call.store.get_document(BUCKETS, name) if _is_name(name) else None
    if found is None:
        raise Refusal(NO_BUCKET, "The specified bucket does not exist.", status=404)
    return _Found(found.name, found.created_at)


async def _bucket(call: Call) -> Bucket:
    return bucket_of(call, (await _find(call)).name)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 63 and text.isascii() and text.isprintable()


def _show(bucket: _Found) -> dict[str, Any]:
    made = {} if bucket.created_at is None else {"creation_date": moment(bucket.created_at)}
    return {
        "name": bucket.name,
        **made,
        "location": "LOCAL" if made else "REMOTE",
        "storage_class": "Standard",
        "jurisdiction": "default",
    }


def _show_object(info: BlobInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "etag": info.etag,
        "size": info.size,
        "version": info.version,
        "last_modified": moment(round(info.uploaded.timestamp() * 1000)),
        "http_metadata": {"contentType": info.content_type},
        "custom_metadata": info.metadata,
        "storage_class": "Standard",
    }


def _endpoint(method: str, path: str, handle: Any, right: Right, action: str | None = None, **more: Any) -> Endpoint:
    where = f"/r2/buckets{path}"
    return Endpoint(
        method=method, path=where, right=right, handle=handle, scope="store", action=action, content_types=(), **more
    )


_OBJECT: Final = "/{bucket}/objects/{key:path}"
_ENDPOINTS: Final = (
    _endpoint("GET", "", list_buckets, Right.READ),
    _endpoint("GET", "/{bucket}", get_bucket, Right.READ),
    _endpoint("GET", "/{bucket}/objects", list_objects, Right.READ),
    _endpoint("PUT", _OBJECT, put_object, Right.MANAGE, "object.put", body_max=UPLOAD_MAX, streams=True),
    _endpoint("GET", _OBJECT, get_object, Right.READ),
    _endpoint("DELETE", _OBJECT, delete_object, Right.MANAGE, "object.delete"),
)
ROOT_ENDPOINTS: Final = (
    Endpoint(method="POST", path="/graphql", right=Right.READ, handle=answer_graphql, scope="store", content_types=()),
)
