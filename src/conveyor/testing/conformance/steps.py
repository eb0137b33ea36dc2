"""What the suite's sentences are made of: one line for one act on a store."""

from __future__ import annotations

from typing import Any, Final

from conveyor.model.ids import MessageId
from conveyor.model.message import Lease, Peeked
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, Claimed
from conveyor.testing.factories import a_claim, a_consumer, a_draft, an_owner

DEAD: Final = "inbox-dead"


async def open_inbox(store: Store, **consumer: Any) -> None:
    """The queue `inbox` with a consumer whose dead letters go to `DEAD`."""
    await store.declare_consumer("inbox", a_consumer(**{"dead_letter_queue": DEAD} | consumer))


async def open_queue(store: Store, name: str = "inbox", **settings: Any) -> None:
    """A queue without a consumer."""
    await store.create_queue(name, QueueSettings(**settings))


async def a_worker(store: Store, **info: Any) -> int:
    return await store.register_owner(an_owner(**info))


async def send(store: Store, **parts: Any) -> MessageId:
    """Send one message; its id."""
    (sent,) = await store.append([a_draft(**parts)])
    return sent.id


async def send_many(store: Store, count: int, **parts: Any) -> list[MessageId]:
    """Send so many in one batch; their ids."""
    return [sent.id for sent in await store.append([a_draft(**parts) for _ in range(count)])]


async def ask(store: Store, owner: int, **parts: Any) -> Claimed:
    return await store.claim(a_claim(owner=owner, **parts))


async def claim(store: Store, owner: int, **parts: Any) -> list[Lease]:
    return (await ask(store, owner, **parts)).leases


async def claim_one(store: Store, owner: int, **parts: Any) -> Lease:
    (lease,) = await claim(store, owner, **{"limit": 1} | parts)
    return lease


async def pull(store: Store, **parts: Any) -> list[Lease]:
    """Claim as a pull consumer, for 30 s."""
    return await claim(store, PULL_OWNER, **{"lease_ms": 30_000} | parts)


async def pull_one(store: Store, **parts: Any) -> Lease:
    (lease,) = await pull(store, **{"limit": 1} | parts)
    return lease


async def settle(store: Store, owner: int, *settlements: Settlement) -> list[int]:
    """Settle what is current; the seqs that died of it."""
    settled = await store.settle(owner, settlements)
    assert settled.lost == []
    return settled.dead


async def look(store: Store, queue: str = "inbox") -> list[Peeked]:
    return await store.peek(queue, limit=100)


async def look_at_one(store: Store, queue: str = "inbox") -> Peeked:
    (message,) = await look(store, queue)
    return message


async def ids_in(store: Store, queue: str = "inbox") -> list[MessageId]:
    return [message.id for message in await look(store, queue)]


async def consumer_of(store: Store, queue: str = "inbox") -> ConsumerSettings | None:
    return (await store.get_queue(queue)).consumer


def ids_of(leases: list[Lease]) -> list[MessageId]:
    return [lease.id for lease in leases]
