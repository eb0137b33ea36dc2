"""Valid things for tests, every part of which can be said otherwise."""

from __future__ import annotations

import secrets
from typing import Any

from msgspec.structs import replace

from conveyor.model.ids import ID_BYTES, MessageId
from conveyor.model.message import Draft, Lease
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.records import ClaimRequest, Delivery, Ending, Evidence, Firing, KeyValue, OwnerInfo, ScheduleDraft


def an_id() -> MessageId:
    """An id that no other message has."""
    return MessageId(secrets.token_bytes(ID_BYTES))


def a_draft(**parts: Any) -> Draft:
    """A JSON message to the queue `inbox`."""
    return replace(Draft(id=an_id(), queue="inbox", body=b'{"n":1}'), **parts)


def a_queue(**parts: Any) -> QueueSettings:
    return QueueSettings(**parts)


def a_consumer(**parts: Any) -> ConsumerSettings:
    """A worker of the script `shop`."""
    return replace(ConsumerSettings(script="shop"), **parts)


def an_owner(**parts: Any) -> OwnerInfo:
    return replace(OwnerInfo(app="shop", host="here", pid=100, supervisor_pid=99), **parts)


def a_claim(*, owner: int, **parts: Any) -> ClaimRequest:
    """Up to ten messages of `inbox`, one by one. `PULL_OWNER` must also say `lease_ms`."""
    return replace(ClaimRequest(queue="inbox", owner=owner, limit=10), **parts)


def an_ack(lease: Lease) -> Settlement:
    return Settlement(lease.seq, lease.claim)


def a_retry(lease: Lease, **parts: Any) -> Settlement:
    return Settlement(lease.seq, lease.claim, Action.RETRY, **parts)


def a_reject(lease: Lease, **parts: Any) -> Settlement:
    return Settlement(lease.seq, lease.claim, Action.REJECT, **parts)


def a_release(lease: Lease, **parts: Any) -> Settlement:
    return Settlement(lease.seq, lease.claim, Action.RELEASE, **parts)


def a_crash(lease: Lease, **parts: Any) -> Settlement:
    return Settlement(lease.seq, lease.claim, Action.CRASH, **parts)


def an_ending(ending: Ending, **parts: Any) -> Evidence:
    return Evidence(ending=ending, **parts)


def a_schedule(**parts: Any) -> ScheduleDraft:
    """`nightly`, once a day into `inbox`."""
    return replace(
        ScheduleDraft(
            name="nightly",
            app="shop",
            queue="inbox",
            expression="0 3 * * *",
            syntax="posix",
            timezone="UTC",
            misfire="latest",
            overlap="allow",
            jitter_ms=0,
        ),
        **parts,
    )


def a_firing(**parts: Any) -> Firing:
    """The first tick of `nightly`."""
    return replace(
        Firing(
            schedule="nightly",
            version=1,
            tick=1_000,
            next_tick=2_000,
            message=a_draft(),
            trigger="schedule",
            correlation_id="c-1",
        ),
        **parts,
    )


def an_entry(**parts: Any) -> KeyValue:
    return replace(KeyValue(key="colour", value=b"blue"), **parts)


def a_delivery(message: Draft, **parts: Any) -> Delivery:
    """To `hook`, carried by `message`."""
    given = Delivery(
        id=message.id, endpoint="hook", queue=message.queue, event="made", state="pending", message_id=message.id,
        body=b"{}",
    )  # fmt: skip
    return replace(given, **parts)
