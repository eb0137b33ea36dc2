"""What a rename does to whatever names the queue, in every store: what it refuses, and how references follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from conveyor.model.beside import QueueNotRenamableError
from conveyor.model.message import SEALED_MARK
from conveyor.model.settings import ConsumerSettings
from conveyor.store.groups import decode_draft, encode_draft

KEEPS_ALARMS: Final = (
    "alarms ring in it, which its app looks for under this name",
    "cancel them first: `conveyor alarms list`",
)
KEEPS_DELIVERIES: Final = (
    "deliveries of webhooks go through it, which its app looks for under this name",
    "rename queues of your own; an app makes its `APP-webhooks` itself",
)
KEEPS_LETTERS: Final = (
    "payloads are encrypted for it, and could not be opened under another name",
    "rename it once its messages, its dead letters and what is kept of its jobs are gone; or make a new queue",
)

Redirected: TypeAlias = tuple[tuple[Any, ...], bytes]
"""Which draft, and what it is from now on."""


def redirect(row: Sequence[Any], name: str, new: str) -> Redirected | None:
    """A draft that is kept, last of the columns that say which; None if it goes elsewhere. `QueueNotRenamableError` if
    it is sealed."""
    *which, text = row
    changed = redirected(text, name, new)
    return None if changed is None else (tuple(which), changed)


def redirected(text: bytes, name: str, new: str) -> bytes | None:
    """As `redirect`, for the draft alone."""
    draft = decode_draft(text)
    if draft.queue != name:
        return None
    check_body(name, draft.body)
    return encode_draft(replace(draft, queue=new))


def check_body(queue: str, body: bytes | None) -> None:
    """`QueueNotRenamableError` if it is sealed."""
    if body is not None and body.startswith(SEALED_MARK):
        problem, hint = KEEPS_LETTERS
        raise QueueNotRenamableError(queue, problem, hint=hint)


def refers_to(consumer: ConsumerSettings | None, name: str, new: str) -> ConsumerSettings | None:
    """The consumer with the new name where it said the old one; None if it did not. What its app has declared stays as
    it was: the app has not changed."""
    if consumer is None or name not in (consumer.dead_letter_queue, consumer.alert_queue):
        return None
    return replace(
        consumer,
        dead_letter_queue=new if consumer.dead_letter_queue == name else consumer.dead_letter_queue,
        alert_queue=new if consumer.alert_queue == name else consumer.alert_queue,
    )
