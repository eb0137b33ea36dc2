"""Queues and consumers in memory: T9 to T12."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.errors import ConsumerConflictError, QueueExistsError, VersionConflictError
from conveyor.model.group import MemberState
from conveyor.model.ids import MessageId, show_id
from conveyor.model.message import ContentType, Peeked
from conveyor.model.redrive import add_redrive
from conveyor.model.settings import ConsumerSettings, QueueSettings, gating_of
from conveyor.model.step import StepKind
from conveyor.store.groups import MemberEnd
from conveyor.store.memory.renaming import Renaming
from conveyor.store.memory.rows import Queue
from conveyor.store.memory.witnessed import changes
from conveyor.store.records import SWEEP_ROWS_MAX, QueueInfo, QueueMetrics


class Queues(Renaming):
    """`QueueStore`."""

    @changes("queue")
    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        if name in self._tables.queues:
            raise QueueExistsError(name)
        return self._make_queue(name, settings).info()

    @changes("queue")
    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        queue = self._queue(name)
        settings.check()
        _check_version(queue, version)
        queue.settings = settings
        return self._touch(queue)

    @changes("queue")
    async def delete_queue(self, name: str) -> None:
        self._queue(name)
        self._empty(name)
        for slot in [slot for slot in self._tables.slots if slot[0] == name]:
            del self._tables.slots[slot]
        self._forget_limits(name, windows=True)
        self._tables.ticks.pop(name, None)
        del self._tables.queues[name]

    async def get_queue(self, name: str) -> QueueInfo:
        return self._queue(name).info()

    async def list_queues(self) -> list[QueueInfo]:
        return [self._tables.queues[name].info() for name in sorted(self._tables.queues)]

    def _touch(self, queue: Queue) -> QueueInfo:
        queue.version, queue.modified_at = next(self._tables.versions), self._now()
        self._wake(queue.name)
        return queue.info()

    @changes("queue")
    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        settings.check()
        present = self._tables.queues.get(queue)
        if present is not None and present.consumer is not None:
            _check_adoption(queue, present.consumer, settings)
        row = self._ensure_queue(queue)
        if row.consumer is not None and row.declared == settings:
            return row.info()
        row.declared = settings
        self._set_consumer(row, settings)
        self._ensure_letterboxes(settings)
        return self._touch(row)

    @changes("queue")
    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        row = self._queue(queue)
        _check_version(row, version)
        if settings is None:
            row.declared = None
        else:
            settings.check()
            self._ensure_letterboxes(settings)
        self._set_consumer(row, settings)
        return self._touch(row)

    def _set_consumer(self, queue: Queue, settings: ConsumerSettings | None) -> None:
        before, queue.consumer = gating_of(queue.consumer), settings
        if gating_of(settings) != before:
            self._forget_limits(queue.name, windows=False)

    def _ensure_letterboxes(self, consumer: ConsumerSettings) -> None:
        for name in (consumer.dead_letter_queue, consumer.alert_queue):
            if name is not None:
                self._ensure_queue(name)

    @changes("queue")
    async def pause(self, queue: str) -> None:
        row = self._queue(queue)
        row.paused = True
        self._touch(row)

    @changes("queue")
    async def resume(self, queue: str) -> None:
        row = self._queue(queue)
        row.paused = False
        self._touch(row)

    @changes("queue")
    async def purge(self, queue: str) -> int:
        self._queue(queue)
        return self._empty(queue)

    def _empty(self, name: str) -> int:
        messages = self._tables.in_queue(name)
        for message in messages:
            del self._tables.messages[message.seq]
        for key in [key for key in self._tables.dedupes if key[0] == name]:
            del self._tables.dedupes[key]
        for level in [level for level in self._tables.lines if level[0] == name]:
            del self._tables.lines[level]
        for message in messages:
            self._end_member(message.id, MemberEnd(MemberState.CANCELLED))
        return len(messages)

    @changes("queue")
    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        self._queue(queue)
        letters = [
            (message, message.dead.origin_queue)
            for message in self._tables.in_queue(queue)
            if message.dead is not None
            and message.dead.origin_queue in self._tables.queues
            and not message.leased
            and (seqs is None or message.seq in seqs)
        ][:limit]
        for message, origin in letters:
            message.start_anew(origin, self._now(), None)
            message.headers = add_redrive(message.headers)
            steps = self._tables.steps.get(message.id, {})
            for name in [name for name in steps if name[0] is StepKind.WAIT]:
                del steps[name]  # it waits anew for events that have not come
        self._wake(*{origin for _, origin in letters})
        return len(letters)

    @changes("queue")
    async def discard(self, queue: str, seqs: Sequence[int]) -> list[int]:
        self._queue(queue)
        wanted = set(seqs)
        found = [message for message in self._tables.in_queue(queue) if message.seq in wanted]
        for message in found:
            if message.seq in self._tables.messages:  # one before it may have ended the group of both
                self._remove(message)
        self._wake(queue)  # the next of their keys may go
        return [message.seq for message in found]

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        self._queue(queue)
        return next((m.peek() for m in self._tables.in_queue(queue) if m.id == message_id), None)

    @changes("message", lambda was, **_rest: f"{was.queue}/{was.id.hex()}")
    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        self._queue(was.queue)
        message = self._tables.messages.get(was.seq)
        if message is None or message.leased or message.peek() != was:
            raise VersionConflictError("message", show_id(was.id))
        message.body, message.content_type, message.headers = body, content_type, headers
        return message.peek()

    async def metrics(self, queue: str) -> QueueMetrics:
        self._queue(queue)
        messages = self._tables.in_queue(queue)
        return QueueMetrics(
            backlog_messages=len(messages),
            backlog_bytes=sum(len(m.body) for m in messages),
            oldest_ready_at=min((m.ready_at for m in messages if not m.leased), default=None),
            leased=sum(m.leased for m in messages),
        )


def _check_version(queue: Queue, version: int | None) -> None:
    if version is not None and version != queue.version:
        raise VersionConflictError("queue", queue.name)


def _check_adoption(queue: str, present: ConsumerSettings, wanted: ConsumerSettings) -> None:
    """`ConsumerConflictError` unless `present` is the same script's."""
    if present.type is not wanted.type or present.script != wanted.script:
        raise ConsumerConflictError(queue, present.script or present.type, wanted.script or wanted.type)
