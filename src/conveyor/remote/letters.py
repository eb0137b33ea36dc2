"""Messages looked at, mended and sent back where they came from, over another conveyor's own API: Cloudflare's has no
word for that."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from conveyor.model.errors import NotFoundError, QueueNotFoundError, VersionConflictError
from conveyor.model.ids import MessageId
from conveyor.model.message import PEEK_MESSAGES_MAX, ContentType, DeadLetter, Peeked, Priority
from conveyor.remote.client import Client
from conveyor.remote.wire import (
    Letter,
    Page,
    PulledMessage,
    Redriven,
    decode_body,
    encode_body,
    message_id,
    read_moment,
)


class OwnLetters:
    """The dead letters, or any messages, of another conveyor's queues. Seqs are ours, for as long as this lives."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seqs = itertools.count(1)
        self._ids: dict[int, str] = {}
        self._cursors: dict[int, str] = {}
        """Of the page after the one that ended with this seq."""

    async def peek(self, queue: str, limit: int, after_seq: int) -> list[Peeked]:
        if after_seq and after_seq not in self._cursors:
            return []
        query = {"limit": str(min(limit, PEEK_MESSAGES_MAX))}
        if after_seq:
            query["cursor"] = self._cursors[after_seq]
        try:
            page: Page[Letter]
            page, _ = await self._client.call_ours("GET", f"/queues/{queue}/messages", Page[Letter], query=query)
        except NotFoundError as error:
            raise QueueNotFoundError(queue) from error
        found = [self._read(queue, each) for each in page.items]
        if found and page.next_cursor is not None:
            self._cursors[found[-1].seq] = page.next_cursor
        return found

    async def redrive(self, queue: str, seqs: Sequence[int] | None) -> int:
        body = {} if seqs is None else {"ids": [self._ids[seq] for seq in seqs if seq in self._ids]}
        redriven: Redriven
        redriven, _ = await self._client.call_ours("POST", f"/dead-letters/{queue}/redrive", Redriven, body=body)
        return redriven.redriven

    async def find(self, queue: str, wanted: MessageId) -> Peeked | None:
        try:
            letter: Letter
            letter, _ = await self._client.call_ours("GET", f"/dead-letters/{queue}/{wanted.hex()}", Letter)
        except NotFoundError:
            return None
        return self._read(queue, letter)

    async def edit(self, was: Peeked, body: bytes, content_type: ContentType) -> Peeked:
        """`VersionConflictError` if it is not as it was."""
        path = f"/dead-letters/{was.queue}/{was.id.hex()}"
        letter: Letter
        letter, tag = await self._client.call_ours("GET", path, Letter)
        if _body_of(letter) != was.body:
            raise VersionConflictError("message", was.id.hex())
        edit: dict[str, Any] = {"body": encode_body(body, content_type), "content_type": content_type}
        letter, _ = await self._client.call_ours("PATCH", path, Letter, body=edit, tag=tag)
        return self._read(was.queue, letter)

    def _read(self, queue: str, letter: Letter) -> Peeked:
        seq = next(self._seqs)
        self._ids[seq] = letter.id
        dead = None
        if letter.origin_queue is not None:
            dead = DeadLetter(
                origin_queue=letter.origin_queue,
                reason=letter.reason or "",
                dead_at=read_moment(letter.dead_at),
                last_error=letter.last_error,
            )
        return Peeked(
            seq=seq,
            id=message_id(letter.id),
            queue=queue,
            body=_body_of(letter),
            content_type=letter.content_type,
            sent_at=read_moment(letter.sent_at),
            ready_at=read_moment(letter.ready_at),
            attempts=letter.attempts,
            leased=letter.state == "leased",
            priority=letter.priority,
            key=letter.key,
            headers=None if letter.headers is None else msgspec.json.encode(letter.headers),
            dead=dead,
        )


def _body_of(letter: Letter) -> bytes:
    if letter.content_type is ContentType.JSON:
        return bytes(letter.body)
    text = msgspec.json.decode(letter.body, type=str)
    return text.encode() if letter.content_type is ContentType.TEXT else base64.b64decode(text)


def read_peeked(queue: str, seq: int, message: PulledMessage) -> Peeked:
    """A message as Cloudflare's API shows it: no more is known of it."""
    sent_at = int(message.timestamp_ms)
    return Peeked(
        seq=seq,
        id=message_id(message.id),
        queue=queue,
        body=decode_body(message),
        content_type=message.content_type,
        sent_at=sent_at,
        ready_at=sent_at,
        attempts=int(message.attempts),
        leased=False,
        priority=Priority.NORMAL,
    )
