"""What operators do with dead letters. A dead letter queue is an ordinary queue, whose messages know where they
died."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from conveyor.model.errors import BodyTooLargeError, InvalidSettingError, NotFoundError
from conveyor.model.ids import MessageId, show_id
from conveyor.model.message import HEADERS_BYTES_MAX, PEEK_MESSAGES_MAX, ContentType, Peeked
from conveyor.model.settings import check_name
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.store.protocol import Store
from conveyor.store.records import SWEEP_ROWS_MAX

SEARCHED_MAX: Final = 1_000
"""Messages that one search looks at, however few of them fit."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; None is any."""

    origin: str | None = None
    """The queue in which it died."""
    reason: str | None = None
    died_before: int | None = None
    """Milliseconds of the store's clock, this one excluded."""
    died_after: int | None = None

    def fits(self, message: Peeked) -> bool:
        """A message that was sent here, rather than having died, fits only where nothing is asked."""
        dead = message.dead
        if dead is None:
            return self == Filter()
        return (
            (self.origin is None or dead.origin_queue == self.origin)
            and (self.reason is None or dead.reason == self.reason)
            and (self.died_before is None or dead.dead_at < self.died_before)
            and (self.died_after is None or dead.dead_at > self.died_after)
        )


ANY: Final = Filter()
MayGoTo: TypeAlias = Callable[[str], bool]
"""Whether dead letters may be sent back to a queue."""


def _anywhere(_queue: str) -> bool:
    return True


class DeadLetters:
    """The dead letters of one queue: look, change, send back, throw away."""

    def __init__(self, store: Store, queue: str, sealer: Sealer = NO_KEYS) -> None:
        check_name("queue", queue)
        self.queue = queue
        self._store = store
        self._sealer = sealer

    async def list(self, *, limit: int = PEEK_MESSAGES_MAX, after_seq: int = 0) -> list[Peeked]:
        """Oldest first; messages that were sent here rather than having died are listed too."""
        _check_limit(limit, PEEK_MESSAGES_MAX)
        return await self._store.peek(self.queue, limit=limit, after_seq=after_seq)

    async def search(
        self, wanted: Filter, *, limit: int = PEEK_MESSAGES_MAX, after_seq: int = 0
    ) -> tuple[Sequence[Peeked], int | None]:
        """Up to `limit` that fit, and the seq after which to go on, None at the end. Looks at no more than
        `SEARCHED_MAX` messages, so few may be found, or none, before the end."""
        _check_limit(limit, PEEK_MESSAGES_MAX)
        found: list[Peeked] = []
        looked_at = 0
        async for message in self._walk(after_seq):
            if len(found) == limit or looked_at == SEARCHED_MAX:
                return found, after_seq
            looked_at, after_seq = looked_at + 1, message.seq
            if wanted.fits(message):
                found.append(message)
        return found, None

    async def get(self, message_id: MessageId) -> Peeked:
        """`NotFoundError`."""
        found = await self._store.find_message(self.queue, message_id)
        if found is None:
            problem = f"no message `{show_id(message_id)}` lies in `{self.queue}`"
            raise NotFoundError(problem, hint=f"see `conveyor dlq list {self.queue}`")
        return found

    async def edit(self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None) -> Peeked:
        """Change one that nobody has leased or changed since. `VersionConflictError`, `BodyTooLargeError`."""
        body, content_type = self._sealer.seal_edit(was, body, content_type)
        settings = (await self._store.get_queue(self.queue)).settings
        if len(body) > settings.max_message_bytes:
            raise BodyTooLargeError("a message's body", len(body), settings.max_message_bytes)
        if headers is not None and headers != was.headers and len(headers) > HEADERS_BYTES_MAX:
            raise BodyTooLargeError("a message's headers", len(headers), HEADERS_BYTES_MAX)
        return await self._store.edit_message(was, body=body, content_type=content_type, headers=headers)

    async def redrive(
        self, wanted: Filter = ANY, *, seqs: Sequence[int] | None = None, may_go_to: MayGoTo | None = None
    ) -> int:
        """Back to the queues they came from, these or all that fit; how many went. `may_go_to` judges each of those
        queues."""
        if seqs is not None:
            return await self._store.redrive(self.queue, seqs=seqs, limit=max(1, len(seqs)))
        if wanted == ANY and may_go_to is None:
            return await self._redrive_all()
        return await self._redrive_fitting(wanted, may_go_to or _anywhere)

    async def redrive_these(self, message_ids: Sequence[MessageId], *, may_go_to: MayGoTo | None = None) -> int:
        """Those of them that lie here; how many went."""
        found = [await self._store.find_message(self.queue, each) for each in dict.fromkeys(message_ids)]
        allowed = may_go_to or _anywhere
        seqs = [each.seq for each in found if each is not None and each.dead and allowed(each.dead.origin_queue)]
        return await self.redrive(seqs=seqs)

    async def _redrive_all(self) -> int:
        most = (await self._store.metrics(self.queue)).backlog_messages  # what dies again meanwhile is not sent round
        moved = 0
        while moved < most:
            count = await self._store.redrive(self.queue, limit=min(SWEEP_ROWS_MAX, most - moved))
            if count == 0:
                break
            moved += count
        return moved

    async def _redrive_fitting(self, wanted: Filter, may_go_to: MayGoTo) -> int:
        now = self._store.clock.now_ms() + 1
        before = now if wanted.died_before is None else min(now, wanted.died_before)
        wanted = msgspec.structs.replace(wanted, died_before=before)  # not what dies again meanwhile
        moved = 0
        seqs: list[int] = []
        async for message in self._walk(0):
            if wanted.fits(message) and message.dead is not None and may_go_to(message.dead.origin_queue):
                seqs.append(message.seq)
            if len(seqs) == SWEEP_ROWS_MAX:
                moved += await self.redrive(seqs=seqs)
                seqs = []
        return moved + (await self.redrive(seqs=seqs) if seqs else 0)

    async def _walk(self, after_seq: int) -> AsyncIterator[Peeked]:
        while page := await self._store.peek(self.queue, limit=PEEK_MESSAGES_MAX, after_seq=after_seq):
            for message in page:
                yield message
            after_seq = page[-1].seq

    async def purge(self) -> int:
        """All of them are gone; how many."""
        return await self._store.purge(self.queue)


def _check_limit(limit: int, most: int) -> None:
    if not 1 <= limit <= most:
        raise InvalidSettingError("limit", limit, f"must be a whole number from 1 to {most:,}")
