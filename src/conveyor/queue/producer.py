"""The way in: a `Queue` checks what is sent at the door, stamps it and hands it to the store, which answers after
COMMIT."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, TypeAlias

import msgspec

from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import BodyTooLargeError, InvalidMessageError, QueueNotFoundError
from conveyor.model.ids import IdSource
from conveyor.model.message import (
    COST_MAX,
    DELAY_MS_MAX,
    HEADERS_BYTES_MAX,
    KEY_CHARS_MAX,
    PRIORITY_MAX,
    ContentType,
    Draft,
    Level,
    Priority,
    Sent,
)
from conveyor.model.settings import RETENTION_MS_MAX, RETRIES_MAX, QueueSettings
from conveyor.queue.encoding import encode_body, encode_json
from conveyor.queue.immediate import Here
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.store.protocol import Store
from conveyor.store.records import QueueMetrics

Lookup: TypeAlias = Callable[[str], Awaitable[QueueSettings]]
"""A queue's settings now; `QueueNotFoundError`."""

SETTINGS_FRESH_S: Final = 5.0
"""How long a change of a queue's limits may go unnoticed by a producer; stores hold the backlog limits themselves."""
_BYTES_TYPES: Final = frozenset({bytes, bytearray, memoryview})


class SentMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that is safely in the store."""

    id: str
    """32 hex digits."""
    deduped: bool = False
    """It was there already, under this id: nothing was added."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message of a batch, with options of its own; None takes what the batch or the queue says."""

    body: Any
    _: KW_ONLY
    delay: Duration | None = None
    priority: Level | None = None
    key: str | None = None
    dedupe: str | None = None
    content_type: str | None = None
    headers: Mapping[str, object] | None = None
    expires_in: Duration | None = None
    cost: int | None = None
    max_retries: int | None = None


class Queue:
    """A queue by its name, for those who send to it."""

    __slots__ = ("_fresh_until", "_here", "_ids", "_lookup", "_monotonic", "_sealer", "_settings", "_store", "name")

    def __init__(
        self, store: Store, ids: IdSource, lookup: Lookup, name: str, here: Here | None = None, sealer: Sealer = NO_KEYS
    ) -> None:
        self.name = name
        self._here = here
        self._sealer = sealer if sealer.covers(name) else None
        self._store = store
        self._ids = ids
        self._lookup = lookup
        self._monotonic = store.clock.monotonic
        self._settings = QueueSettings()
        self._fresh_until = -math.inf

    async def send(
        self,
        body: object,
        *,
        delay: Duration | None = None,
        priority: Level | None = None,
        key: str | None = None,
        dedupe: str | None = None,
        content_type: str | None = None,
        headers: Mapping[str, object] | None = None,
        expires_in: Duration | None = None,
        cost: int | None = None,
        tx: object = None,
    ) -> SentMessage:
        """Send one message; it is safely in the store when this returns.

        `delay` beats the queue's own, `priority` is "low", "normal", "high" or 0 to 9 (higher first), a live `dedupe`
        key returns the first message instead of adding one, `expires_in` dead-letters what was not delivered by then,
        `cost` is what a delivery takes of the consumer's rates (1 is usual). With `tx` it is part of your own open
        transaction on the store's database, and is sent if and when you commit.
        """
        if tx is not None:
            message = Outgoing(
                body, delay=delay, priority=priority, key=key, dedupe=dedupe, content_type=content_type,
                headers=headers, expires_in=expires_in, cost=cost,
            )  # fmt: skip
            return (await self._send_in(tx, [self._draft(message, delay)]))[0]
        settings = self._settings if self._monotonic() < self._fresh_until else await self._reload()
        if (
            delay is None
            and priority is None
            and key is None
            and dedupe is None
            and content_type is None
            and headers is None
            and expires_in is None
            and cost is None
            and type(body) not in _BYTES_TYPES
        ):
            draft = Draft(id=self._ids.new(), queue=self.name, body=encode_json(body))
            if self._sealer is not None:
                draft = self._seal(self._sealer, draft)
        else:
            message = Outgoing(
                body, delay=delay, priority=priority, key=key, dedupe=dedupe, content_type=content_type,
                headers=headers, expires_in=expires_in, cost=cost,
            )  # fmt: skip
            draft = self._draft(message, delay)
        if len(draft.body) > settings.max_message_bytes:
            raise BodyTooLargeError("a message's body", len(draft.body), settings.max_message_bytes)
        [sent] = await self._append([draft])
        return SentMessage(sent.id.hex(), sent.deduped)

    async def send_batch(
        self, bodies: Iterable[object | Outgoing], *, delay: Duration | None = None, tx: object = None
    ) -> list[SentMessage]:
        """Send several messages, all or none. Items are bodies, or `Outgoing` ones with options of their own, which
        beat `delay`. `tx` as for `send`."""
        if tx is not None:
            drafts = [self._draft(each if isinstance(each, Outgoing) else Outgoing(each), delay) for each in bodies]
            return await self._send_in(tx, drafts, is_batch=True)
        settings = self._settings if self._monotonic() < self._fresh_until else await self._reload()
        drafts = self._drafts(list(bodies), delay)
        if not drafts:
            return []
        _check_batch(drafts, settings)
        return [SentMessage(sent.id.hex(), sent.deduped) for sent in await self._append(drafts)]

    def draft(self, message: Outgoing) -> Draft:
        """What the store is handed for a message; `InvalidMessageError`."""
        return self._draft(message, None)

    async def send_drafts(self, drafts: Sequence[Draft], *, tx: object = None) -> list[Sent]:
        """Send what `draft` has made, in as few batches as the queue's limits allow; with `tx` all or none."""
        joined = None if tx is None else self._store.join(tx)
        if joined is not None:
            settings = await joined.get_settings(self.name)
        else:
            settings = self._settings if self._monotonic() < self._fresh_until else await self._reload()
        for draft in drafts:
            _check_body(draft, settings)
        sent: list[Sent] = []
        for batch in _cut(drafts, settings):
            sent += await (self._append(batch) if joined is None else joined.append(batch))
        return sent

    async def metrics(self) -> QueueMetrics:
        """Its backlog now."""
        await self._reload()  # opens the app if need be
        return await self._store.metrics(self.name)

    def __repr__(self) -> str:
        return f"<Queue {self.name!r}>"

    async def _send_in(self, tx: object, drafts: list[Draft], *, is_batch: bool = False) -> list[SentMessage]:
        """Nothing here goes by way of the writer: it would wait for the user's lock, and the user for it."""
        joined = self._store.join(tx)
        settings = await joined.get_settings(self.name)
        if is_batch and drafts:
            _check_batch(drafts, settings)
        for draft in drafts:
            _check_body(draft, settings)
        return [SentMessage(sent.id.hex(), sent.deduped) for sent in await joined.append(drafts)]

    async def _append(self, drafts: list[Draft]) -> list[Sent]:
        line = None if self._here is None else self._here.line_to(self.name)
        try:
            return await (self._store.append(drafts) if line is None else line.send(drafts))
        except QueueNotFoundError:
            self._fresh_until = -math.inf
            raise

    async def _reload(self) -> QueueSettings:
        self._settings = await self._lookup(self.name)
        self._fresh_until = self._monotonic() + SETTINGS_FRESH_S
        return self._settings

    def _seal(self, sealer: Sealer, draft: Draft) -> Draft:
        return sealer.seal_draft(draft, knows_id=not self._store.at(self.name).keeps_others)

    def _drafts(self, bodies: Sequence[object], delay: Duration | None) -> list[Draft]:
        """What `_draft` makes of each, in a third of the time where none has options: batches are of thousands."""
        delay_ms, name, kinds = _read_delay(delay), self.name, set(map(type, bodies))
        if any(issubclass(kind, Outgoing) for kind in kinds):
            return [self._draft(each if isinstance(each, Outgoing) else Outgoing(each), delay) for each in bodies]
        if any(issubclass(kind, tuple(_BYTES_TYPES)) for kind in kinds):
            encoded = [encode_body(body, None) for body in bodies]
        else:
            encoded = [(encode_json(body), ContentType.JSON) for body in bodies]
        drafts = [
            Draft(id=id, queue=name, body=body, content_type=content_type, delay_ms=delay_ms)
            for id, (body, content_type) in zip(self._ids.new_all(len(bodies)), encoded, strict=True)
        ]
        return drafts if self._sealer is None else [self._seal(self._sealer, draft) for draft in drafts]

    def _draft(self, message: Outgoing, delay: Duration | None) -> Draft:
        body, content_type = encode_body(message.body, message.content_type)
        delay = message.delay if message.delay is not None else delay
        expires_in = message.expires_in
        draft = Draft(
            id=self._ids.new(),
            queue=self.name,
            body=body,
            content_type=content_type,
            delay_ms=_read_delay(delay),
            priority=Priority.NORMAL if message.priority is None else _read_priority(message.priority),
            key=_read_key("key", message.key),
            dedupe=_read_key("dedupe", message.dedupe),
            headers=None if message.headers is None else _read_headers(message.headers),
            expires_in_ms=None
            if expires_in is None
            else read_duration_ms(expires_in, name="expires_in", least_ms=1, most_ms=RETENTION_MS_MAX),
            cost=1 if message.cost is None else _read_cost(message.cost),
            max_retries=None if message.max_retries is None else _read_retries(message.max_retries),
        )
        return draft if self._sealer is None else self._seal(self._sealer, draft)


def _check_batch(drafts: list[Draft], settings: QueueSettings) -> None:
    if len(drafts) > settings.max_batch_messages:
        raise InvalidMessageError(
            "bodies",
            f"<{len(drafts):,} messages>",
            f"a batch holds at most {settings.max_batch_messages:,}",
            hint="send several batches, or raise `max_batch_messages` in the queue's settings",
        )
    sizes = [len(draft.body) for draft in drafts]
    if max(sizes) > settings.max_message_bytes:
        raise BodyTooLargeError("a message's body", max(sizes), settings.max_message_bytes)
    total = sum(sizes)
    if total > settings.max_batch_bytes:
        raise BodyTooLargeError("a batch of bodies", total, settings.max_batch_bytes)


def _cut(drafts: Sequence[Draft], settings: QueueSettings) -> Iterator[list[Draft]]:
    """As batches within the queue's limits; each body is within its own."""
    batch: list[Draft] = []
    size = 0
    for draft in drafts:
        if batch and (len(batch) >= settings.max_batch_messages or size + len(draft.body) > settings.max_batch_bytes):
            yield batch
            batch, size = [], 0
        batch.append(draft)
        size += len(draft.body)
    if batch:
        yield batch


def _check_body(draft: Draft, settings: QueueSettings) -> None:
    if len(draft.body) > settings.max_message_bytes:
        raise BodyTooLargeError("a message's body", len(draft.body), settings.max_message_bytes)


def _read_delay(delay: Duration | None) -> int | None:
    return None if delay is None else read_duration_ms(delay, name="delay", most_ms=DELAY_MS_MAX)


def _read_priority(value: Level) -> int:
    if isinstance(value, str):
        if value.upper() not in Priority.__members__:
            raise InvalidMessageError("priority", value, "must be `low`, `normal`, `high`, or a number from 0 to 9")
        return Priority[value.upper()]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= PRIORITY_MAX:
        raise InvalidMessageError("priority", value, f"must be a whole number from 0 to {PRIORITY_MAX}")
    return int(value)


def _read_cost(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= COST_MAX:
        raise InvalidMessageError("cost", value, f"must be a whole number from 1 to {COST_MAX:,}")
    return int(value)


def _read_retries(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= RETRIES_MAX:
        raise InvalidMessageError("max_retries", value, f"must be a whole number from 0 to {RETRIES_MAX}")
    return int(value)


def _read_key(field: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= KEY_CHARS_MAX:
        raise InvalidMessageError(field, value, f"must be text of 1 to {KEY_CHARS_MAX} characters")
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise InvalidMessageError(field, value, "holds a NUL or half of a surrogate pair")
    return value


def _read_headers(value: Mapping[str, object]) -> bytes:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidMessageError(
            "headers", f"<{type(value).__qualname__}>", "must be a mapping of names to JSON values"
        )
    encoded = encode_json(dict(value))
    if len(encoded) > HEADERS_BYTES_MAX:
        raise BodyTooLargeError("a message's headers", len(encoded), HEADERS_BYTES_MAX)
    return encoded
