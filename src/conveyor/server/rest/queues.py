"""Queues and their consumers: made, read, changed, paused, purged, measured."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from conveyor import subscriptions
from conveyor.model.errors import VersionConflictError
from conveyor.model.settings import QueueSettings
from conveyor.queue.admin import Queues
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.consumers import Consumer, ConsumerShown, read_consumer, show_consumer
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, maybe_moment, moment
from conveyor.server.rest.versions import etag, wanted_version
from conveyor.server.rights import Right
from conveyor.store.records import QueueInfo, QueueMetrics


class Settings(Asked, frozen=True, kw_only=True):
    """What a queue promises its producers; what is left out stays as it is."""

    delivery_delay_ms: int | UnsetType = UNSET
    retention_ms: int | UnsetType = UNSET
    dedupe_window_ms: int | UnsetType = UNSET
    max_message_bytes: int | UnsetType = UNSET
    max_batch_messages: int | UnsetType = UNSET
    max_batch_bytes: int | UnsetType = UNSET
    max_backlog_messages: int | None | UnsetType = UNSET
    max_backlog_bytes: int | UnsetType = UNSET


class NewQueue(Asked, frozen=True, kw_only=True):
    """A queue to be made."""

    name: str
    settings: Settings = Settings()


class NewName(Asked, frozen=True, kw_only=True):
    """What a queue is to be called."""

    name: str


class SettingsShown(Told, frozen=True, kw_only=True):
    """What a queue promises its producers."""

    delivery_delay_ms: int
    retention_ms: int
    dedupe_window_ms: int
    max_message_bytes: int
    max_batch_messages: int
    max_batch_bytes: int
    max_backlog_messages: int | None
    max_backlog_bytes: int


class QueueShown(Told, frozen=True, kw_only=True):
    """A queue as it operates. Its `version` is its ETag."""

    name: str
    settings: SettingsShown
    consumer: ConsumerShown | None
    paused: bool
    version: int
    created_at: Moment
    modified_at: Moment


class MetricsShown(Told, frozen=True, kw_only=True):
    """A queue's counters."""

    queue: str
    backlog_messages: int
    """Not final: ready, delayed or leased."""
    backlog_bytes: int
    leased: int
    oldest_ready_at: Moment | None


class Purged(Told, frozen=True, kw_only=True):
    """How many messages are gone."""

    purged: int


async def list_queues(call: Call) -> Answer:
    """Queues that the token may read, by name."""
    asked = read_query(call, PageAsked)
    after = read_cursor("queues", asked.cursor, str) or ""
    found = [
        info for info in await Queues(call.store).list() if info.name > after and call.caller.may(Right.READ, info.name)
    ]
    page = cut_page("queues", found, asked.limit, lambda info: info.name)
    return Answer.json(Page(items=[show_queue(info) for info in page.items], next_cursor=page.next_cursor))


async def create_queue(call: Call) -> Answer:
    """Make a queue."""
    asked = call.decode(NewQueue)
    call.target = asked.name
    call.require(Right.MANAGE, asked.name)
    return _shown(await Queues(call.store).create(asked.name, _changed(QueueSettings(), asked.settings)), status=201)


async def get_queue(call: Call) -> Answer:
    """A queue as it operates now."""
    return _shown(await Queues(call.store).info(_name(call, Right.READ)))


async def change_queue(call: Call) -> Answer:
    """Change a queue's settings; what is left out stays as it is."""
    name = _name(call, Right.MANAGE)
    asked = call.decode(Settings)
    present = await Queues(call.store).info(name)
    version = wanted_version(call, "queue", name)
    if version is not None and version != present.version:
        raise VersionConflictError("queue", name)
    changed = _changed(present.settings, asked)
    return _shown(await Queues(call.store).update(name, changed, version=version or present.version))


async def rename_queue(call: Call) -> Answer:
    """Give the queue another name: its messages, leases, consumer and jobs go with it, and the old name is free. The
    token must reach both names."""
    name = _name(call, Right.MANAGE)
    asked = call.decode(NewName)
    call.require(Right.MANAGE, asked.name)
    version = await _wanted_version(call, name)
    return _shown(await subscriptions.rename_queue(call.store, name, asked.name, version=version))


async def delete_queue(call: Call) -> Answer:
    """Delete a queue and all its messages."""
    await Queues(call.store).delete(_name(call, Right.MANAGE))
    return Answer(204)


async def put_consumer(call: Call) -> Answer:
    """Set the queue's consumer, whole: what is left out takes its default. The token must reach the queues for dead
    letters and alerts as well."""
    name = _name(call, Right.MANAGE)
    settings = read_consumer(call.decode(Consumer))
    for target in (settings.dead_letter_queue, settings.alert_queue):
        if target is not None:
            call.require(Right.MANAGE, target)  # what dies here will lie there
    version = await _wanted_version(call, name)
    return _shown(await Queues(call.store).put_consumer(name, settings, version=version))


async def delete_consumer(call: Call) -> Answer:
    """Remove the queue's consumer."""
    name = _name(call, Right.MANAGE)
    version = await _wanted_version(call, name)
    return _shown(await Queues(call.store).put_consumer(name, None, version=version))


async def pause_queue(call: Call) -> Answer:
    """Deliver nothing until `resume`; sends go on, and running handlers finish."""
    name = _name(call, Right.MANAGE)
    await Queues(call.store).pause(name)
    return _shown(await Queues(call.store).info(name))


async def resume_queue(call: Call) -> Answer:
    """Deliver again."""
    name = _name(call, Right.MANAGE)
    await Queues(call.store).resume(name)
    return _shown(await Queues(call.store).info(name))


async def purge_queue(call: Call) -> Answer:
    """Throw all of the queue's messages away."""
    return Answer.json(Purged(purged=await Queues(call.store).purge(_name(call, Right.MANAGE))))


async def get_metrics(call: Call) -> Answer:
    """The queue's counters."""
    name = _name(call, Right.READ)
    return Answer.json(show_metrics(name, await Queues(call.store).metrics(name)))


def _name(call: Call, right: Right) -> str:
    name = call.path["queue"]
    call.require(right, name)
    return name


async def _wanted_version(call: Call, name: str) -> int | None:
    """As `wanted_version`; a queue that is not there has none."""
    await Queues(call.store).info(name)
    return wanted_version(call, "queue", name)


def _changed(present: QueueSettings, asked: Settings) -> QueueSettings:
    given: dict[str, Any] = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not UNSET}
    return msgspec.structs.replace(present, **given)


def show_queue(info: QueueInfo) -> QueueShown:
    return QueueShown(
        name=info.name,
        settings=SettingsShown(**msgspec.structs.asdict(info.settings)),
        consumer=None if info.consumer is None else show_consumer(info.consumer),
        paused=info.paused,
        version=info.version,
        created_at=moment(info.created_at),
        modified_at=moment(info.modified_at),
    )


def show_metrics(name: str, metrics: QueueMetrics) -> MetricsShown:
    return MetricsShown(
        queue=name,
        backlog_messages=metrics.backlog_messages,
        backlog_bytes=metrics.backlog_bytes,
        leased=metrics.leased,
        oldest_ready_at=maybe_moment(metrics.oldest_ready_at),
    )


def _shown(info: QueueInfo, status: int = 200) -> Answer:
    return Answer.json(show_queue(info), status, headers=etag(info.version))


OPERATIONS: Final = (
    Operation(
        method="GET", path="/queues", right=Right.READ, handle=list_queues, query=PageAsked, gives=Page[QueueShown]
    ),
    Operation(
        method="POST", path="/queues", right=Right.MANAGE, handle=create_queue, action="queue.create", takes=NewQueue,
        gives=QueueShown, status=201,
    ),
    Operation(method="GET", path="/queues/{queue}", right=Right.READ, handle=get_queue, gives=QueueShown),
    Operation(
        method="PATCH", path="/queues/{queue}", right=Right.MANAGE, handle=change_queue, action="queue.update",
        takes=Settings, gives=QueueShown, versioned=True,
    ),
    Operation(
        method="POST", path="/queues/{queue}/rename", right=Right.MANAGE, handle=rename_queue, action="queue.rename",
        takes=NewName, gives=QueueShown, versioned=True,
    ),
    Operation(
        method="DELETE", path="/queues/{queue}", right=Right.MANAGE, handle=delete_queue, action="queue.delete"
    ),
    Operation(
        method="PUT", path="/queues/{queue}/consumer", right=Right.MANAGE, handle=put_consumer,
        action="queue.consumer.put", takes=Consumer, gives=QueueShown, versioned=True,
    ),
    Operation(
        method="DELETE", path="/queues/{queue}/consumer", right=Right.MANAGE, handle=delete_consumer,
        action="queue.consumer.delete", gives=QueueShown, versioned=True,
    ),
    Operation(
        method="POST", path="/queues/{queue}/pause", right=Right.MANAGE, handle=pause_queue, action="queue.pause",
        gives=QueueShown,
    ),
    Operation(
        method="POST", path="/queues/{queue}/resume", right=Right.MANAGE, handle=resume_queue, action="queue.resume",
        gives=QueueShown,
    ),
    Operation(
        method="POST", path="/queues/{queue}/purge", right=Right.MANAGE, handle=purge_queue, action="queue.purge",
        gives=Purged,
    ),
    Operation(
        method="GET", path="/queues/{queue}/metrics", right=Right.READ, handle=get_metrics, gives=MetricsShown
    ),
)  # fmt: skip
