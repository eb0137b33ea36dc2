"""What travels on the data plane: the shapes of requests and answers, with bodies kept as the bytes that came."""

from __future__ import annotations

import base64
import binascii
from typing import Final, NoReturn, TypeVar

import msgspec

from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import DELAY_MS_MAX, KEY_CHARS_MAX, ContentType, Lease, Peeked
from conveyor.model.refusals import InvalidRequestError
from conveyor.model.settings import check_name
from conveyor.server.cloudflare.dialect import MESSAGE_METADATA_INVALID, Refusal
from conveyor.server.endpoint import Answer, Call
from conveyor.server.reading import check_json
from conveyor.store.records import QueueMetrics

T = TypeVar("T")

QUEUE_NOT_FOUND: Final = 10_104
QUEUE_ID_MALFORMED: Final = 10_107
BATCH_DELAY_INVALID: Final = 10_202
BATCH_TOO_LARGE: Final = 10_205
BATCH_COUNT: Final = 10_206
BODY_INVALID: Final = 10_207
BODY_MALFORMED: Final = 10_208
_NO_BODY: Final = msgspec.Raw()


class Push(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    body: msgspec.Raw = _NO_BODY
    content_type: str | None = None
    delay_seconds: int | float | None = None


class Batch(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[Push]
    delay_seconds: int | float | None = None


class Pull(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    batch_size: int | float | None = None
    visibility_timeout_ms: int | float | None = None
    visibility_timeout: int | float | None = None


class Acked(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    lease_id: str


class Retried(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    lease_id: str
    delay_seconds: int | float | None = None


class Verdicts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    acks: list[Acked] | None = None
    retries: list[Retried] | None = None


class Peek(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    batch_size: int | float | None = None


class Metadata(msgspec.Struct, gc=False):
    content_type: str = msgspec.field(name="CF-Content-Type")
    source: str = msgspec.field(default="api", name="CF-sourceMessageSource")


class Ref(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ref: str


class Purge(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    refs: list[Ref]


METADATA: Final = {each: Metadata(content_type=each.value) for each in ContentType}


class Pulled(msgspec.Struct, gc=False):
    id: str
    body: str
    timestamp_ms: int
    attempts: int
    metadata: Metadata
    lease_id: str


class Seen(msgspec.Struct, gc=False):
    id: str
    body: str
    timestamp_ms: int
    attempts: int
    metadata: Metadata
    ref: str


PUSH: Final = msgspec.json.Decoder(Push)
BATCH: Final = msgspec.json.Decoder(Batch)
PULL: Final = msgspec.json.Decoder(Pull)
VERDICTS: Final = msgspec.json.Decoder(Verdicts)
PURGE: Final = msgspec.json.Decoder(Purge)
PEEK: Final = msgspec.json.Decoder(Peek)
_any: Final = msgspec.json.Decoder()
_text: Final = msgspec.json.Decoder(str)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """`Refusal` with the place of what is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(BODY_INVALID, f"the request body does not fit: {error}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(BODY_MALFORMED, "the request body is not valid JSON") from error


def read_body(message: Push) -> tuple[bytes, ContentType]:
    """What is kept of a pushed body: JSON as it came, text as UTF-8, bytes out of their base64."""
    raw, kind = message.body, message.content_type
    if raw is _NO_BODY:
        raise Refusal(BODY_INVALID, "the request body does not fit: Object missing required field `body`")
    if kind is None or kind == "json":
        body = bytes(raw)
        _check_body(body)
        return body, ContentType.JSON
    if kind not in ("text", "bytes"):
        raise Refusal(MESSAGE_METADATA_INVALID, f"content type `{kind[:32]}` is none of `json`, `text`, `bytes`")
    try:
        text = _text.decode(raw)
        if kind == "text":
            return text.encode(), ContentType.TEXT
        return base64.b64decode(text, validate=True), ContentType.BYTES
    except (msgspec.MsgspecError, UnicodeError, binascii.Error) as error:
        wanted = "a string" if kind == "text" else "base64"
        raise Refusal(BODY_INVALID, f"a body of content type `{kind}` is {wanted}") from error


def _check_body(raw: bytes) -> None:
    """`Refusal` for what msgspec skips over in a `Raw`, as numbers out of range and what is not UTF-8, and for what is
    nested too deep."""
    try:
        check_json(raw)
        _any.decode(raw)
    except InvalidRequestError as error:
        raise Refusal(BODY_INVALID, error.message) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(BODY_MALFORMED, "the message's body is not valid JSON") from error


def read_delay(seconds: float | None, number: int) -> int | None:
    """Milliseconds; `Refusal` with this code."""
    if seconds is None:
        return None
    if not 0 <= seconds <= DELAY_MS_MAX // 1000 or seconds != int(seconds):
        raise Refusal(number, f"`delay_seconds` must be a whole number from 0 to {DELAY_MS_MAX // 1000:,}")
    return int(seconds) * 1000


def read_within(name: str, value: float | None, default: int, least: int, most: int, number: int) -> int:
    """A whole number, or the default. `Refusal` with this code."""
    if value is None:
        return default
    if not least <= value <= most or value != int(value):
        raise Refusal(number, f"`{name}` must be a whole number from {least:,} to {most:,}")
    return int(value)


def read_idempotency_key(call: Call) -> str | None:
    """Of a push that may come twice. Cloudflare knows none; another conveyor sends one."""
    given = call.headers.get(b"idempotency-key")
    if given is None:
        return None
    key = given.decode("latin-1")
    if not 1 <= len(key) <= KEY_CHARS_MAX - 8 or not key.isprintable():
        raise Refusal(MESSAGE_METADATA_INVALID, f"`Idempotency-Key` has 1 to {KEY_CHARS_MAX - 8} signs")
    return key


def show_body(message: Lease | Peeked, *, encodes_json: bool) -> str:
    """As those who pull get it."""
    kind = message.content_type
    if kind is ContentType.BYTES or (encodes_json and kind is ContentType.JSON):
        return base64.b64encode(message.body).decode()
    return message.body.decode()


def metadata_json(metrics: QueueMetrics) -> bytes:
    """The `metadata` that comes with what changed or showed a backlog."""
    return b'"metadata":{"metrics":{"backlog_bytes":%d,"backlog_count":%d,"oldest_message_timestamp_ms":%d}}' % (
        metrics.backlog_bytes,
        metrics.backlog_messages,
        metrics.oldest_ready_at or 0,
    )


def pushed(metrics: QueueMetrics) -> Answer:
    """The answer to a push."""
    return Answer(200, b'{"success":true,"errors":[],"messages":[],"result":{%b}}' % metadata_json(metrics))


def refuse_size(what: str, size: int, limit: int, number: int) -> NoReturn:
    words = f"{what} is {size:,} bytes, the limit is {limit:,}"
    raise Refusal(number, words, status=413)


def words_for(queue: str) -> str:
    """Where there is no such queue."""
    return f"Queue '{queue[:64]}' not found. Please verify it exists and try again."


def check_reference(queue: str) -> None:
    """`Refusal` for what can be neither an id nor a name of a queue."""
    try:
        check_name("queue", queue)
    except InvalidSettingError:
        raise Refusal(QUEUE_ID_MALFORMED, f"'{queue[:64]}' is no id of a queue") from None
