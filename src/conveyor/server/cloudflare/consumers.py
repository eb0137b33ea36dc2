"""A queue's consumer, of which there is one at most: a worker (an app, by its name), or whoever pulls over HTTP."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from conveyor.model.errors import InvalidError
from conveyor.model.message import DELAY_MS_MAX, PULL_MESSAGES_MAX, PULL_MS_MAX
from conveyor.model.settings import BATCH_TIMEOUT_MS_MAX, RETRIES_MAX, ConsumerSettings, ConsumerType, check_name
from conveyor.model.verdict import Backoff
from conveyor.queue.admin import Queues
from conveyor.server.cloudflare.dialect import Refusal, moment, succeed
from conveyor.server.cloudflare.directory import Directory, Known, consumer_id, queue_id
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle
from conveyor.server.rights import Right
from conveyor.store.records import QueueInfo

PER_PAGE: Final = 100
CONCURRENCY_MAX: Final = 250

_EXISTS: Final = 11_004
_NOT_FOUND: Final = 11_006
_SETTINGS_INVALID: Final = 100_127
_DEFAULTS: Final = ConsumerSettings()


class ConsumerTerms(msgspec.Struct, forbid_unknown_fields=True):
    """`settings` on this wire; None: the default."""

    batch_size: int | float | None = None
    max_retries: int | float | None = None
    max_wait_time_ms: int | float | None = None
    max_concurrency: int | float | None = None
    retry_delay: int | float | None = None
    visibility_timeout_ms: int | float | None = None


class ConsumerBody(msgspec.Struct, forbid_unknown_fields=True):
    """Of a POST or PUT. There are no environments here."""

    type: str = "worker"
    script_name: str | None = None
    script: str | None = None
    service: str | None = None
    environment: str | None = None
    environment_name: str | None = None
    dead_letter_queue: str | None = None
    settings: ConsumerTerms | None = None
    queue_name: str | None = None
    consumer_id: str | None = None


class ConsumerDesk:
    """The endpoints of consumers."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def endpoints(self) -> list[Endpoint]:
        all_, one = "/queues/{queue}/consumers", "/queues/{queue}/consumers/{consumer}"
        return [
            _endpoint("GET", all_, Right.READ, self.list),
            _endpoint("POST", all_, Right.MANAGE, self.create, "consumer.create"),
            _endpoint("GET", one, Right.READ, self.show),
            _endpoint("PUT", one, Right.MANAGE, self.update, "consumer.update"),
            _endpoint("PATCH", one, Right.MANAGE, self.update, "consumer.update"),
            _endpoint("DELETE", one, Right.MANAGE, self.delete, "consumer.delete"),
        ]

    async def list(self, call: Call) -> Answer:
        info = (await self._directory.find(call, Right.READ)).info
        present = [] if info.consumer is None else [show_consumer(info, info.consumer)]
        items, paging = read_page(call, present, per_page=PER_PAGE)
        return succeed(items, info=paging)

    async def create(self, call: Call) -> Answer:
        """The dead letter queue is made if need be; without one, what fails for good is deleted."""
        known = await self._directory.find(call, Right.MANAGE)
        body = call.decode(ConsumerBody)
        wanted = _read(body, _read_kind(body), known.info)
        if (await Queues(call.store).info(known.name)).consumer is not None:
            raise Refusal(_EXISTS, "workers.api.error.consumer_exists", status=409)
        return await self._put(call, known, wanted)

    async def show(self, call: Call) -> Answer:
        known = await self._directory.find(call, Right.READ)
        return succeed(show_consumer(known.info, _find(call, known)))

    async def update(self, call: Call) -> Answer:
        """What is not said is as at the start, but for what this wire has no words for. Whose it is stays."""
        known = await self._directory.find(call, Right.MANAGE)
        present = _find(call, known)
        return await self._put(call, known, _read(call.decode(ConsumerBody), present, known.info))

    async def delete(self, call: Call) -> Answer:
        known = await self._directory.find(call, Right.MANAGE)
        _find(call, known)
        self._directory.note(call.store, await Queues(call.store).put_consumer(known.name, None))
        return succeed(None)

    async def _put(self, call: Call, known: Known, wanted: ConsumerSettings) -> Answer:
        if wanted.dead_letter_queue is not None:
            call.require(Right.MANAGE, wanted.dead_letter_queue)
        info = await Queues(call.store).put_consumer(known.name, wanted)
        self._directory.note(call.store, info)
        return succeed(show_consumer(info, wanted))


def show_consumer(info: QueueInfo, consumer: ConsumerSettings) -> dict[str, Any]:
    """A consumer as clients read it: wrangler looks at `script`, the SDKs at `script_name`."""
    settings: dict[str, Any] = {
        "batch_size": consumer.max_batch_size,
        "max_retries": consumer.max_retries,
        "retry_delay": consumer.retry_delay.base_ms // 1000,
    }
    whose: dict[str, Any] = {}
    if consumer.type is ConsumerType.WORKER:
        settings |= {"max_wait_time_ms": consumer.max_batch_timeout_ms, "max_concurrency": consumer.max_concurrency}
        whose = {"script": consumer.script, "script_name": consumer.script}
    else:
        settings["visibility_timeout_ms"] = consumer.visibility_timeout_ms
    return {
        "consumer_id": consumer_id(info, consumer),
        "type": consumer.type.value,
        **whose,
        "queue_name": info.name,
        "queue_id": queue_id(info),
        "created_on": moment(info.created_at),
        "dead_letter_queue": consumer.dead_letter_queue or "",
        "settings": settings,
    }


def _find(call: Call, known: Known) -> ConsumerSettings:
    consumer = known.info.consumer
    if consumer is None or consumer_id(known.info, consumer) != call.path["consumer"]:
        raise Refusal(_NOT_FOUND, f"Consumer '{call.path['consumer'][:64]}' not found.", status=404)
    return consumer


def _read_kind(body: ConsumerBody) -> ConsumerSettings:
    """A consumer of this type and script, with nothing said yet. `Refusal`."""
    if body.type == ConsumerType.HTTP_PULL:
        return ConsumerSettings(type=ConsumerType.HTTP_PULL)
    if body.type != ConsumerType.WORKER:
        raise Refusal(_SETTINGS_INVALID, f"consumer type `{body.type[:64]}` is neither `worker` nor `http_pull`")
    script = body.script_name or body.script or body.service or ""
    _check_name("script_name", script)
    return ConsumerSettings(type=ConsumerType.WORKER, script=script)


def _read(body: ConsumerBody, present: ConsumerSettings, info: QueueInfo) -> ConsumerSettings:
    """What the body says, on top of what this wire has no words for. `Refusal`."""
    terms = body.settings or ConsumerTerms()
    dead_letter_queue = body.dead_letter_queue or None
    if dead_letter_queue is not None:
        _check_name("dead_letter_queue", dead_letter_queue)
    if dead_letter_queue == info.name:
        raise Refusal(_SETTINGS_INVALID, "a queue cannot be its own dead letter queue")
    delay_s = _within("retry_delay", terms.retry_delay, 0, 0, DELAY_MS_MAX // 1000)
    concurrency = terms.max_concurrency
    wanted = replace(
        present,
        max_batch_size=_within("batch_size", terms.batch_size, _DEFAULTS.max_batch_size, 1, PULL_MESSAGES_MAX),
        max_retries=_within("max_retries", terms.max_retries, _DEFAULTS.max_retries, 0, RETRIES_MAX),
        max_batch_timeout_ms=_within(
            "max_wait_time_ms", terms.max_wait_time_ms, _DEFAULTS.max_batch_timeout_ms, 0, BATCH_TIMEOUT_MS_MAX
        ),
        max_concurrency=None if concurrency is None else _within("max_concurrency", concurrency, 1, 1, CONCURRENCY_MAX),
        retry_delay=Backoff(base_ms=delay_s * 1000),
        visibility_timeout_ms=_within(
            "visibility_timeout_ms", terms.visibility_timeout_ms, _DEFAULTS.visibility_timeout_ms, 0, PULL_MS_MAX
        ),
        dead_letter_queue=dead_letter_queue,
    )
    wanted.check()
    return wanted


def _check_name(setting: str, name: str) -> None:
    try:
        check_name(setting, name)
    except InvalidError as error:
        raise Refusal(_SETTINGS_INVALID, error.message) from None


def _within(name: str, value: float | None, default: int, least: int, most: int) -> int:
    if value is None:
        return default
    if not least <= value <= most or value != int(value):
        raise Refusal(_SETTINGS_INVALID, f"`{name}` must be a whole number from {least:,} to {most:,}")
    return int(value)


def _endpoint(method: str, path: str, right: Right, handle: Handle, action: str | None = None) -> Endpoint:
    return Endpoint(method=method, path=path, right=right, handle=handle, action=action, content_types=())
