"""Sends and acks inside the user's own transaction, on the user's own connection.

All that is written there is a row of the outbox, or of the acks: nothing that anybody waits for, however long the user
takes to commit. What is checked is checked as the transaction sees it, and says no before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from weakref import WeakSet

import msgspec

from conveyor.model.errors import InvalidTransactionError, LeaseLostError, QueueNotFoundError
from conveyor.model.ids import MessageId, show_id
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.store.postgres.append import Depths, check_depth
from conveyor.store.postgres.borrowed import Borrowed, Row, borrow, explain
from conveyor.store.postgres.opening import Address
from conveyor.store.postgres.outbox import decode_draft, encode_draft
from conveyor.store.postgres.statements import quoted, user_statements

_SETTINGS: Final = msgspec.json.Decoder(QueueSettings)
_CONSUMER: Final = msgspec.json.Decoder(ConsumerSettings)


class Home:
    """What a transaction must know of the store that joins it. `expect` is told of what a COMMIT may follow."""

    def __init__(
        self, address: Address, store_id: bytes, bound_now: Callable[[], int | None], expect: Callable[[], None]
    ) -> None:
        self.schema = address.schema
        self.where = address.where
        self.store_id = store_id
        self.bound_now = bound_now
        self.expect = expect
        self.statements = user_statements(address.schema)
        self.depths = Depths()  # its own: what an old snapshot sees may be long past
        self.known: WeakSet[Any] = WeakSet()
        """Connections whose database was seen to have the schema."""


class _Queue(NamedTuple):
    """A queue as the transaction sees it."""

    name: str
    lane: int
    settings: QueueSettings
    consumer: ConsumerSettings | None


_Known: TypeAlias = dict[str, MessageId]


class JoinedTransaction:
    """`Joined` on a connection of any driver that `borrowed` knows."""

    def __init__(self, tx: object, home: Home) -> None:
        self._user: Borrowed = borrow(tx)
        self._home = home
        self._queues: dict[str, _Queue] = {}

    async def get_settings(self, queue: str) -> QueueSettings:
        return (await self._find(queue)).settings

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        answers: dict[MessageId, Sent] = {}
        new: list[Draft] = []
        for name in {draft.queue: None for draft in drafts}:
            queue = await self._find(name)
            ours = [draft for draft in drafts if draft.queue == name]
            for draft in ours:
                if draft.cost != 1 and queue.consumer is not None:
                    queue.consumer.check_cost(draft.cost)
            kept = await self._weed(queue, ours, answers)
            await self._check_depth(queue, kept)
            new += kept
        if new:
            await self._put(new)
        return [answers.get(draft.id) or Sent(draft.id) for draft in drafts]

    async def ack(self, owner: int, lease: Lease) -> None:
        await self._look(lease.queue)
        done = await self._fetch("ack_from_tx", owner=owner, seq=lease.seq, claim=lease.claim)
        if not done:
            raise LeaseLostError(show_id(lease.id))
        self._home.expect()

    async def _find(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            lane, settings, consumer = await self._look(name)
            if settings is None:
                raise QueueNotFoundError(name)
            decoded = None if consumer is None else _CONSUMER.decode(consumer)
            queue = self._queues[name] = _Queue(name, lane, _SETTINGS.decode(settings), decoded)
        return queue

    async def _look(self, queue: str) -> tuple[int, str | None, str | None]:
        """A queue's lane, settings and consumer. `InvalidTransactionError` if this is no open transaction of the
        store's own database in which one may write."""
        await self._start()
        [(store_id, is_read_only, lane, settings, consumer)] = await self._fetch("look_from_tx", queue=queue)
        if bytes(store_id) != self._home.store_id:
            raise self._elsewhere()
        if not self._user.is_open:
            raise InvalidTransactionError(self._user.tx, "no transaction is open on it", hint=self._user.begin)
        if is_read_only:
            raise InvalidTransactionError(self._user.tx, "its transaction is read-only")
        return lane, settings, consumer

    async def _start(self) -> None:
        """Once for each connection: is the schema there? A statement that names what is not would make the user's
        transaction fail."""
        try:
            await self._user.start()
        except Exception as error:
            raise explain(self._user.tx, error, self._home.where) from error
        if self._user.driver in self._home.known:
            return
        [(is_there,)] = await self._fetch("knows_outbox", table=f"{quoted(self._home.schema)}.outbox")
        if not is_there:
            raise self._elsewhere()
        self._home.known.add(self._user.driver)

    def _elsewhere(self) -> InvalidTransactionError:
        return InvalidTransactionError(
            self._user.tx,
            f"its database is not that of the queue, `{self._home.where}` (schema `{self._home.schema}`)",
            hint="connect it to the database of CONVEYOR_URL",
        )

    async def _weed(self, queue: _Queue, drafts: list[Draft], answers: dict[MessageId, Sent]) -> list[Draft]:
        """Those whose dedupe key nobody holds; the others are answered."""
        keys = list({draft.dedupe: None for draft in drafts if draft.dedupe is not None})
        known = await self._known(queue, keys) if keys else {}
        kept: list[Draft] = []
        for draft in drafts:
            if draft.dedupe is None:
                kept.append(draft)
            elif draft.dedupe in known:
                answers[draft.id] = Sent(known[draft.dedupe], deduped=True)
            else:
                known[draft.dedupe] = draft.id
                kept.append(draft)
        return kept

    async def _known(self, queue: _Queue, keys: list[str]) -> _Known:
        found = await self._fetch(
            "dedupe_from_tx", queue=queue.name, keys=keys, lane=queue.lane, now=self._home.bound_now()
        )
        return {
            key: MessageId(bytes(held)) if held is not None else decode_draft(on_its_way).id
            for key, held, on_its_way in found
            if held is not None or on_its_way is not None
        }

    async def _check_depth(self, queue: _Queue, drafts: Sequence[Draft]) -> None:
        """`QueueFullError`. What other open transactions hold is not seen: by so much they may go beyond the limit."""
        messages, size = len(drafts), sum(len(draft.body) for draft in drafts)
        if self._home.depths.is_far(queue, messages, size):
            return
        [(waiting, waiting_bytes)] = await self._fetch("depth_from_tx", lane=queue.lane, queue=queue.name)
        self._home.depths.learn(queue.lane, waiting, waiting_bytes)
        check_depth(queue.name, queue.settings, waiting + messages, waiting_bytes + size)

    async def _put(self, drafts: Iterable[Draft]) -> None:
        rows = [(draft.queue, encode_draft(draft), draft.body, draft.dedupe) for draft in drafts]
        queues, texts, bodies, dedupes = (list(column) for column in zip(*rows, strict=True))
        await self._fetch(
            "put_outbox", now=self._home.bound_now(), queues=queues, drafts=texts, bodies=bodies, dedupes=dedupes
        )
        self._home.expect()

    async def _fetch(self, name: str, **values: Any) -> list[Row]:
        try:
            return await self._user.fetch(self._home.statements[name], values)
        except Exception as error:
            raise explain(self._user.tx, error, self._home.where) from error
