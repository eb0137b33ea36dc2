"""Changes in memory that somebody watches. No method waits, so each is one transaction with its record."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar, cast

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.errors import QueueNotFoundError
from conveyor.model.ids import MessageId
from conveyor.store.records import TRAIL_KIND
from conveyor.store.witness import (
    Change,
    Witness,
    current_witness,
    read_hex,
    split_name,
    subject_after,
    subject_of,
    watched,
)

M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])
T = TypeVar("T")


def _first(name: Any, *_rest: Any, **_named: Any) -> str:
    return str(name)


def changes(kind: str, name_of: Callable[..., str] = _first) -> Callable[[M], M]:
    """Marks a method that changes something of this kind; `name_of` its arguments is the thing's name."""

    def mark(method: M) -> M:
        @wraps(method)
        async def changed(*given: Any, **named: Any) -> Any:
            witness = current_witness()
            if witness is None:
                return await method(*given, **named)
            store: Any = given[0]
            with watched(None):
                subject = subject_of(kind, name_of(*given[1:], **named))
                return await _watch(store, witness, subject, lambda: method(*given, **named))

        return cast("M", changed)

    return mark


async def _watch(
    store: Any, witness: Witness, subject: tuple[str, str], run: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    if store.keeps_trail:
        head = await store.get_document(TRAIL_KIND, witness.trail)
        witness.examine(b"" if head is None else head.body)
    before = await _look(store, *subject)
    answer = await run()
    after = await _look(store, *subject_after(*subject, answer))
    seen = Change(kind=subject[0], name=subject[1], before=before, after=after, answer=answer)
    body = witness.describe(seen, store.clock.now_ms())
    if body is not None and store.keeps_trail:
        await store.append_record(witness.trail, body, witness.seal)
    witness.tell(body, is_written=store.keeps_trail)
    return answer


async def _look(store: Any, kind: str, name: str) -> object:
    try:
        match kind:
            case "queue":
                return await store.get_queue(name)
            case "schedule":
                return await store.get_schedule(name)
            case "alarm":
                return await store.get_alarm(name)
            case "job":
                return next(iter(await store.jobs.find([MessageId(read_hex(name))])), None)
            case "group":
                return await store.groups.find(MessageId(read_hex(name)))
            case "delivery":
                return await store.get_delivery(MessageId(read_hex(name)))
            case "message":
                queue, id = split_name(name)
                return await store.find_message(queue, MessageId(read_hex(id)))
            case "document":
                return await store.get_document(*split_name(name))
    except (QueueNotFoundError, ScheduleNotFoundError):
        return None
    return None
