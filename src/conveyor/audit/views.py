"""What the trail says of things: plain facts of each, never a secret, and of bodies only those that were edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from conveyor.model.message import ContentType, Peeked
from conveyor.store.groups import Group
from conveyor.store.jobs import JobFound
from conveyor.store.records import Alarm, Delivery, Document, Fired, QueueInfo, Schedule
from conveyor.store.steps import Told
from conveyor.store.witness import Change

TEXT_CHARS_MAX: Final = 1_000
"""Of one value, edited bodies included."""
FACTS_BYTES_MAX: Final = 8_192
"""Of all that is said of a thing."""
_OF_DOCUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "token": ("name", "rights", "queues", "expires_at", "created_by"),
    "webhook": ("app", "url", "events", "description", "failing_since", "disabled"),
    "retention": ("keep_ms",),
}
"""The fields that are shown; of other kinds, only that they changed."""


def differences(change: Change, now: int) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Before and after; where both are there, only what differs."""
    before, after = facts_of(change.before, now), facts_of(change.after, now)
    if before is not None and after is not None:
        names = [name for name in (before | after) if before.get(name) != after.get(name)]
        before = {name: before[name] for name in names if name in before}
        after = {name: after[name] for name in names if name in after}
    return _bounded(before), _bounded(after)


def count_of(answer: object) -> int | None:
    """Of an operation on many messages: how many there were."""
    if isinstance(answer, bool) or answer is None:
        return None
    if isinstance(answer, list):
        return len(answer)
    if isinstance(answer, Told):
        return int(answer.is_kept)
    if isinstance(answer, Fired):
        return int(answer is Fired.SENT)
    return answer if isinstance(answer, int) else None


def facts_of(thing: object, now: int) -> dict[str, Any] | None:
    """What is said of a thing; None of nothing."""
    match thing:
        case QueueInfo():
            consumer = {} if thing.consumer is None else _plain(thing.consumer)
            return {
                **({} if thing.first_name is None else {"name": thing.name}),
                "paused": thing.paused,
                **{f"settings.{name}": value for name, value in _plain(thing.settings).items()},
                **{f"consumer.{name}": value for name, value in consumer.items()},
            }
        case Schedule():
            draft = _plain(thing.draft)
            draft.pop("name")
            return {"paused": thing.paused, "next_tick": thing.next_tick, **draft}
        case Alarm():
            return {"state": thing.state.value, "due_at": thing.due_at, "queue": thing.queue, "error": thing.error}
        case JobFound():
            is_asked = thing.record is not None and thing.record.cancel_at is not None
            state = thing.state(now).value
            return {"state": state, "name": thing.name, "queue": thing.queue, "cancel_requested": is_asked}
        case Group():
            return {"state": thing.state.value, "name": thing.name}
        case Delivery():
            return {"state": thing.state, "event": thing.event, "endpoint": thing.endpoint}
        case Peeked():
            return {"body": _body(thing), "content_type": thing.content_type.value}
        case Document():
            return _document(thing)
    return None


def _document(document: Document) -> dict[str, Any]:
    shown = _OF_DOCUMENTS.get(document.kind)
    if shown is None:
        return {"version": document.version}
    try:
        found = msgspec.json.decode(document.body)
    except msgspec.MsgspecError:
        return {"version": document.version}
    facts = {name: found.get(name) for name in shown} if isinstance(found, dict) else {}
    return {**facts, "version": document.version}


def _body(message: Peeked) -> str:
    if message.content_type is ContentType.BYTES:
        return f"{len(message.body):,} bytes"
    return message.body.decode("utf-8", "replace")


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(struct, enc_hook=str)
    return found


def _bounded(facts: dict[str, Any] | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    cut = {name: _cut(value) for name, value in facts.items()}
    return cut if len(msgspec.json.encode(cut)) <= FACTS_BYTES_MAX else {"...": "more than is kept here"}


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        return f"{value[:TEXT_CHARS_MAX]}... ({len(value):,} characters)"
    return value
