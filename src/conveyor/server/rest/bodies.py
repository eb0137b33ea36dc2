"""Messages' bodies and headers as the API shows and takes them: JSON as what it says, text as text, bytes in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from conveyor.model.errors import BodyTooLargeError, InvalidMessageError
from conveyor.model.ids import show_id
from conveyor.model.message import HEADERS_BYTES_MAX, ContentType, Peeked
from conveyor.model.refusals import InvalidRequestError
from conveyor.queue.encoding import encode_body, encode_json
from conveyor.server.rest.shapes import Moment, Told, maybe_moment, moment

OWN_HEADERS: Final = "conveyor-"
"""What the names of headers begin with that conveyor writes."""


class MessageShown(Told, frozen=True, kw_only=True):
    """A message, looked at without taking it."""

    id: str
    queue: str
    body: Any
    """JSON as it is, text as text, bytes in base64."""
    content_type: ContentType
    state: str
    """`ready`, `delayed` or `leased`."""
    attempts: int
    sent_at: Moment
    ready_at: Moment
    priority: int
    key: str | None
    headers: dict[str, Any] | None
    origin_queue: str | None
    """Of a dead letter: the queue in which it died, why, and when."""
    reason: str | None
    last_error: str | None
    dead_at: Moment | None


def show_message(message: Peeked, now_ms: int) -> MessageShown:
    dead = message.dead
    waiting = "delayed" if message.ready_at > now_ms else "ready"
    return MessageShown(
        id=show_id(message.id),
        queue=message.queue,
        body=show_body(message.body, message.content_type),
        content_type=message.content_type,
        state="leased" if message.leased else waiting,
        attempts=message.attempts,
        sent_at=moment(message.sent_at),
        ready_at=moment(message.ready_at),
        priority=message.priority,
        key=message.key,
        headers=show_headers(message.headers),
        origin_queue=None if dead is None else dead.origin_queue,
        reason=None if dead is None else dead.reason,
        last_error=None if dead is None else dead.last_error,
        dead_at=None if dead is None else maybe_moment(dead.dead_at),
    )


def show_body(body: bytes, content_type: ContentType) -> Any:
    """As `MessageShown` says; a body that is not what its content type says is shown as text, as well as it goes."""
    if content_type is ContentType.BYTES:
        return base64.b64encode(body).decode()
    if content_type is ContentType.JSON:
        try:
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
    return body.decode("utf-8", "replace")


def show_headers(packed: bytes | None) -> dict[str, Any] | None:
    return None if packed is None else msgspec.json.decode(packed, type=dict[str, Any])


def read_body(body: Any, content_type: ContentType) -> object:
    """What `Queue.send` takes for it. `InvalidRequestError`."""
    if content_type is ContentType.JSON:
        return body
    if not isinstance(body, str):
        raise InvalidRequestError(f"a body of content type `{content_type}` is a string", status=422)
    if content_type is ContentType.TEXT:
        return body
    try:
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequestError("a body of content type `bytes` is base64", status=422) from None


def pack_body(body: Any, content_type: ContentType) -> bytes:
    """The bytes that travel. `InvalidRequestError`, `InvalidMessageError`."""
    return encode_body(read_body(body, content_type), content_type)[0]


def read_headers(headers: Mapping[str, Any] | None, *, present: bytes | None = None) -> Mapping[str, Any] | None:
    """Those that a caller may write; conveyor's own stay as they are. `InvalidMessageError` otherwise."""
    own = {name: value for name, value in (headers or {}).items() if name.lower().startswith(OWN_HEADERS)}
    kept = show_headers(present) or {}
    for name, value in own.items():
        if name not in kept or value != kept[name]:
            hint = "such headers are written by conveyor alone; give it another name"
            raise InvalidMessageError("headers", name, f"it begins with `{OWN_HEADERS}`", hint=hint)
    return headers


def pack_headers(headers: Mapping[str, Any] | None) -> bytes | None:
    """`BodyTooLargeError`, `InvalidMessageError`."""
    if headers is None:
        return None
    packed = encode_json(dict(headers))
    if len(packed) > HEADERS_BYTES_MAX:
        raise BodyTooLargeError("a message's headers", len(packed), HEADERS_BYTES_MAX)
    return packed
