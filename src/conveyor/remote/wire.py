"""What travels between us and the API: the envelope, and the parts of its objects that we read or write. Unknown fields
are somebody else's business."""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from conveyor.model.ids import ID_BYTES, MessageId, read_id
from conveyor.model.message import ContentType

T = TypeVar("T")
_NULL: Final = msgspec.Raw(b"null")
_JSON: Final = msgspec.json.Decoder()


class Problem(msgspec.Struct, frozen=True, gc=False):
    code: int = 0
    message: str = ""


class Said(msgspec.Struct, frozen=True):
    """What an answer says of itself: in Cloudflare's envelope, or as problem+json."""

    success: bool = True
    errors: list[Problem] | None = None
    detail: str | None = None


class Envelope(msgspec.Struct, frozen=True):
    """Around every good answer of Cloudflare's API."""

    result: msgspec.Raw = _NULL


class ConsumerTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """A consumer's `settings`; None: not said."""

    batch_size: float | None = None
    max_retries: float | None = None
    retry_delay: float | None = None
    max_wait_time_ms: float | None = None
    max_concurrency: float | None = None
    visibility_timeout_ms: float | None = None


class ConsumerRow(msgspec.Struct, frozen=True):
    consumer_id: str = ""
    type: str = "worker"
    script: str | None = None
    script_name: str | None = None
    dead_letter_queue: str | None = None
    settings: ConsumerTerms | None = None


class QueueTerms(msgspec.Struct, frozen=True):
    """A queue's `settings`."""

    delivery_delay: float | None = None
    delivery_paused: bool | None = None
    message_retention_period: float | None = None


class QueueRow(msgspec.Struct, frozen=True):
    queue_id: str = ""
    queue_name: str = ""
    created_on: str | None = None
    modified_on: str | None = None
    settings: QueueTerms | None = None
    consumers: list[ConsumerRow] | None = None


class MetricsRow(msgspec.Struct, frozen=True):
    backlog_count: float = 0
    backlog_bytes: float = 0
    oldest_message_timestamp_ms: float = 0


class PushedMessage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One message of a push."""

    body: msgspec.Raw
    content_type: str
    delay_seconds: int | None = None


class Pushed(msgspec.Struct, frozen=True):
    messages: list[PushedMessage]


class PulledMessage(msgspec.Struct, frozen=True):
    """One message of a pull, or of a peek, which leases nothing."""

    id: str = ""
    body: Any = None
    timestamp_ms: float = 0
    attempts: float = 1
    metadata: dict[str, Any] | None = None
    lease_id: str = ""
    ref: str = ""

    @property
    def content_type(self) -> ContentType:
        """`v8` is bytes to us; what nobody named is text."""
        name = str((self.metadata or {}).get("CF-Content-Type", "text"))
        return {"json": ContentType.JSON, "text": ContentType.TEXT}.get(name, ContentType.BYTES)


class Pulled(msgspec.Struct, frozen=True):
    messages: list[PulledMessage] | None = None


class AckedLease(msgspec.Struct, frozen=True):
    lease_id: str


class RetriedLease(msgspec.Struct, frozen=True, omit_defaults=True):
    lease_id: str
    delay_seconds: int | None = None


class Verdicts(msgspec.Struct, frozen=True):
    """The body of `messages/ack`."""

    acks: list[AckedLease]
    retries: list[RetriedLease]


class Judged(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to it."""

    ack_count: float = 0
    retry_count: float = 0
    warnings: dict[str, Any] | list[Any] | None = None


class Letter(msgspec.Struct, frozen=True):
    """A message as a conveyor's own API shows it."""

    id: str
    content_type: ContentType
    sent_at: str
    ready_at: str
    state: str = "ready"
    attempts: int = 0
    priority: int = 5
    body: msgspec.Raw = _NULL
    key: str | None = None
    headers: dict[str, Any] | None = None
    origin_queue: str | None = None
    reason: str | None = None
    last_error: str | None = None
    dead_at: str | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list of a conveyor's own API."""

    items: list[T]
    next_cursor: str | None = None


class Redriven(msgspec.Struct, frozen=True):
    redriven: int = 0


Kind = Literal["worker", "http_pull"]


class ConsumerDraft(msgspec.Struct, frozen=True, omit_defaults=True):
    """A consumer as it is created or updated."""

    type: Kind
    settings: ConsumerTerms
    script_name: str | None = None
    dead_letter_queue: str | None = None


def encode_body(body: bytes, content_type: ContentType) -> msgspec.Raw:
    """As a push carries it: JSON as it is, text as a string, bytes in base64."""
    match content_type:
        case ContentType.JSON:
            return msgspec.Raw(body)
        case ContentType.TEXT:
            return msgspec.Raw(msgspec.json.encode(body.decode()))
        case ContentType.BYTES:
            return msgspec.Raw(msgspec.json.encode(base64.b64encode(body).decode()))


def decode_body(message: PulledMessage) -> bytes:
    """As it was sent. JSON comes as its text or, by other accounts, in base64; no text is valid as both."""
    body = message.body
    if not isinstance(body, str):
        return msgspec.json.encode(body)
    if message.content_type is ContentType.TEXT:
        return body.encode()
    if message.content_type is ContentType.JSON and _is_json(body.encode()):
        return body.encode()
    try:
        decoded = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return body.encode()
    if message.content_type is ContentType.JSON and not _is_json(decoded):
        return body.encode()
    return decoded


def message_id(text: str) -> MessageId:
    """32 hex digits, with or without hyphens; of anything else a digest."""
    found = read_id(text.replace("-", ""))
    return found if found is not None else MessageId(hashlib.sha256(text.encode()).digest()[:ID_BYTES])


def read_moment(text: str | None) -> int:
    """Milliseconds since the epoch; 0 of what is no moment."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
    except ValueError:
        return 0


def _is_json(text: bytes) -> bool:
    try:
        _JSON.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
