"""Links to objects on local files: whoever has one may do what it says, and no more. They are endpoints and no
operations of the API: an app gives them out, nobody writes one."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from conveyor.blobs.model import CONTENT_TYPE, OBJECT_BYTES_MAX
from conveyor.model.refusals import InvalidRequestError
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.objects import bucket_of, links_of, name_of, serve_object


async def get_object(call: Call) -> Answer:
    """The object, or a part of it."""
    bucket = call.path["bucket"]
    granted = links_of(call).read(call.method, bucket, call.query, call.store.clock.now_ms())
    return await serve_object(call, bucket_of(call, bucket), granted.key, filename=name_of(granted.key))


async def put_object(call: Call) -> Answer:
    """The body becomes the object, once all of it is here."""
    bucket = call.path["bucket"]
    granted = links_of(call).read(call.method, bucket, call.query, call.store.clock.now_ms())
    assert call.pieces is not None
    info = await bucket_of(call, bucket).put(
        granted.key, call.pieces, content_type=call.header("content-type") or CONTENT_TYPE, size_max=granted.size_max,
        md5=_read_md5(call.header("content-md5")),
    )  # fmt: skip
    return Answer(200, headers=((b"etag", f'"{info.etag}"'.encode()),))


def _read_md5(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 16:
        raise InvalidRequestError("the content-md5 is no MD5 in base64")
    return found.hex()


ENDPOINTS: Final = (
    Endpoint(method="GET", path="/objects/{bucket}", right=None, handle=get_object, scope="store"),
    Endpoint(
        method="PUT", path="/objects/{bucket}", right=None, handle=put_object, scope="store", action=None,
        body_max=OBJECT_BYTES_MAX, content_types=(), streams=True, is_unhurried=True,
    ),
)  # fmt: skip
