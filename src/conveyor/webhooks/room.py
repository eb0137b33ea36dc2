"""`app.webhooks`: tells others what happened, and takes what others tell.

A delivery is a message of the queue `<app>-webhooks` and a row of the log, written together.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from conveyor.audit.act import acting
from conveyor.model.beside import EndpointDisabledError, EndpointExistsError, EndpointNotFoundError
from conveyor.model.duration import DAY_MS, HOUR_MS, Duration, read_duration_ms
from conveyor.model.errors import BodyTooLargeError, InvalidSettingError, QueueExistsError
from conveyor.model.events import Emit
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.message import DELAY_MS_MAX, Draft
from conveyor.model.settings import RETENTION_MS_MAX, RETRIES_MAX, ConsumerSettings, QueueSettings, check_name
from conveyor.queue.encoding import encode_json
from conveyor.queue.handler import Handler, read_handler
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.secrets import Keys
from conveyor.store import records
from conveyor.store.protocol import Store
from conveyor.webhooks.carrier import SCHEDULE_MS, Carrier, OnTry, Terms
from conveyor.webhooks.courier import DEADLINE_S, Courier
from conveyor.webhooks.endpoints import DISABLE_MS, OVERLAP_MS, OVERLAP_MS_MAX, Endpoint, Endpoints, check_event, id_of
from conveyor.webhooks.log import (
    DeliveryInfo,
    DeliveryState,
    Parcel,
    get_delivery,
    make_carrier,
    payload_of,
    read_webhook_id,
    resend,
    show_delivery,
    webhook_id,
    with_parcel,
)
from conveyor.webhooks.receiver import SETTINGS as RECEIVER_SETTINGS
from conveyor.webhooks.receiver import Receiver
from conveyor.webhooks.targets import PORTS, Policy, check_url

PAYLOAD_BYTES_MAX: Final = 262_144
AT_ONCE: Final = 4
"""Calls of one endpoint at a time, over all processes."""
LINES_AT_ONCE: Final = 16
"""Calls at a time in all, where deliveries stand in lines."""
LINE_CHARS_MAX: Final = 200
ONCE_MS: Final = HOUR_MS
"""For so long two that open one delivery at the same moment are told apart by the queue, then by the log."""
TIMEOUT_MS: Final = 60_000
DISABLE_MS_MAX: Final = 365 * DAY_MS
QUEUE_SETTINGS: Final = QueueSettings(retention_ms=RETENTION_MS_MAX)
_BATCH: Final = 500


class Webhooks:
    """The webhooks of an app."""

    def __init__(
        self,
        app: str,
        store: Callable[[], Store],
        ids: IdSource,
        ensure_open: Callable[[], Awaitable[None]],
        folder: Callable[[], Path],
        declare_queue: Callable[[str, QueueSettings], object],
        emit: Emit,
        chance: random.Random,
        sealer: Sealer = NO_KEYS,
    ) -> None:
        self.queue = f"{app}-webhooks"
        self.policy = Policy()
        self.terms = Terms()
        self.courier = Courier(self.policy)
        self._app = app
        self._store = store
        self._ids = ids
        self._ensure_open = ensure_open
        self._keys = Keys(folder)
        self._sealer = sealer
        self._declare_queue = declare_queue
        self._carrier = Carrier(self, emit, chance)
        self._sends = False
        self._is_ordered = False
        self._declared_in: Store | None = None

    def configure(
        self,
        *,
        http: bool = False,
        ports: Sequence[int] | None = tuple(PORTS),
        allow: Sequence[str] = (),
        schedule: Sequence[Duration] | None = None,
        disable_after: Duration = DISABLE_MS / 1000,
        timeout: Duration = DEADLINE_S,
        ordered: bool = False,
        on_try: OnTry | None = None,
    ) -> None:
        """Say, beside the app's other declarations, that it sends webhooks, so that its workers deliver them.

        `http` calls URLs without TLS too, `ports` other ports (None: any), `allow` networks that are not public, as in
        `["10.1.0.0/16"]`. `schedule` has the delay before each retry. An endpoint that took nothing for
        `disable_after` is disabled; what has not answered in full within `timeout` has failed. `ordered` delivers what
        has the same `key` one after another: a later one waits until the one before was taken, or given up. `on_try` is
        awaited with the delivery after each try, in the worker, for your own logs and figures; its errors are logged.
        `InvalidSettingError`, `InvalidDurationError`.
        """
        policy = Policy(http=http, ports=None if ports is None else frozenset(ports), allow=tuple(allow))
        policy.check()
        steps: tuple[int, ...] = SCHEDULE_MS
        if schedule is not None:
            steps = tuple(read_duration_ms(each, name="schedule", most_ms=DELAY_MS_MAX) for each in schedule)
        if len(steps) > RETRIES_MAX or sum(steps) > RETENTION_MS_MAX:
            problem = f"has more than {RETRIES_MAX} steps, or takes over 14 days"
            raise InvalidSettingError("schedule", schedule, problem, hint="fewer, or shorter: as in `[5, 300, 1800]`")
        after_ms = read_duration_ms(disable_after, name="disable_after", most_ms=DISABLE_MS_MAX)
        timeout_ms = read_duration_ms(timeout, name="timeout", least_ms=1, most_ms=TIMEOUT_MS // 2)
        self.policy, self.courier = policy, Courier(policy, deadline_s=timeout_ms / 1000)
        self.terms = Terms(schedule_ms=steps, disable_after_ms=after_ms)
        self._is_ordered, self._carrier.on_try = ordered, on_try
        self._begin_to_send()

    # Out

    def new_id(self) -> str:
        """An id for `send`: keep it with what it tells of, in your own transaction, before you send."""
        return webhook_id(self._ids.new())

    async def send(
        self, url: str, event: str, data: object, *, id: str | None = None, key: str | None = None, bare: bool = False
    ) -> str:
        """Tell one URL what happened, whatever its filter: the delivery's id, which is the `webhook-id`, after COMMIT.

        A URL that was never told anything becomes an endpoint, with a secret of its own (`secret`). With an `id`
        (`new_id`) it may be called again after a crash: what was opened under it before is left as it is. Of one `key`
        all go in their order, if that is configured. `bare` sends `data` itself as the body, for receivers that are not
        ours to shape, instead of within Standard Webhooks' `type`, `timestamp` and `data`.
        `WebhookTargetError`, `EndpointDisabledError`, `BodyTooLargeError`, `InvalidSettingError`, and
        `DeliveryNotFoundError` for what is no id.
        """
        check_url(url, self.policy)
        self._check_line(key)
        store, endpoints = await self.open()
        wanted = None if id is None else read_webhook_id(id)
        if wanted is not None and await store.get_delivery(wanted) is not None:
            return webhook_id(wanted)
        endpoint = await endpoints.find(id_of(self._app, url))
        if endpoint is None:
            try:
                endpoint = await endpoints.add(self._app, url, policy=self.policy)
            except EndpointExistsError:  # somebody was first
                endpoint = await endpoints.get(id_of(self._app, url))
        if endpoint.disabled is not None:
            raise EndpointDisabledError(endpoint.id, endpoint.disabled)
        delivery, message = self._open_one(
            endpoint, event, _payload(store, check_event(event), data, bare=bare), wanted or self._ids.new(), key
        )
        if wanted is not None:
            message = replace(message, dedupe=id, dedupe_ms=ONCE_MS)
        await store.open_deliveries([(delivery, message)])
        return webhook_id(delivery.id)

    async def publish(self, event: str, data: object) -> list[str]:
        """Tell every endpoint whose filter wants it, and that is not disabled: the deliveries' ids, after COMMIT."""
        check_event(event)
        store, endpoints = await self.open()
        wanting = [each for each in await endpoints.list_of(self._app) if each.disabled is None and each.wants(event)]
        return await self._send_to(wanting, store, event, data)

    async def _send_to(self, told: Sequence[Endpoint], store: Store, event: str, data: object) -> list[str]:
        """In one transaction, or a few if they are very many."""
        payload = _payload(store, check_event(event), data)
        opened = [self._open_one(endpoint, event, payload, self._ids.new()) for endpoint in told]
        for start in range(0, len(opened), _BATCH):
            await store.open_deliveries(opened[start : start + _BATCH])
        return [webhook_id(delivery.id) for delivery, _ in opened]

    def _open_one(
        self, endpoint: Endpoint, event: str, payload: str, id: MessageId, key: str | None = None
    ) -> tuple[records.Delivery, Draft]:
        message = make_carrier(self._ids, self.queue, endpoint.id, id, key, is_ordered=self._is_ordered)
        delivery = records.Delivery(
            id=id,
            endpoint=endpoint.id,
            queue=self.queue,
            event=event,
            state=DeliveryState.PENDING.value,
            message_id=message.id,
            body=b"",
        )
        parcel = Parcel(url=endpoint.url, payload=payload, line=key)
        return with_parcel(delivery, parcel, DeliveryState.PENDING), message

    def _check_line(self, key: str | None) -> None:
        if key is None:
            return
        if not self._is_ordered:
            hint = "`app.webhooks.configure(ordered=True)`"
            raise InvalidSettingError("key", key, "means nothing where deliveries are not ordered", hint=hint)
        if not isinstance(key, str) or not 1 <= len(key) <= LINE_CHARS_MAX or not key.isprintable():
            raise InvalidSettingError("key", key, f"must be text of 1 to {LINE_CHARS_MAX} printable characters")

    async def resend(self, delivery: str) -> None:
        """Deliver it again, under the same `webhook-id`; of those that go in order, behind what waits with its key.
        `DeliveryNotFoundError`."""
        store, _ = await self.open()
        async with acting(store, "webhook.resend", delivery):
            await resend(store, self._ids, delivery)

    async def deliveries(
        self, *, url: str | None = None, state: str | None = None, limit: int = 100
    ) -> list[DeliveryInfo]:
        """The log, newest first. `InvalidSettingError` for what is no state."""
        if state is not None and state not in list(DeliveryState):
            raise InvalidSettingError("state", state, f"is none of {', '.join(DeliveryState)}")
        store, _ = await self.open()
        endpoint = None if url is None else id_of(self._app, url)
        found = await store.list_deliveries(endpoint=endpoint, state=state, limit=limit)
        return [show_delivery(each) for each in found]

    async def delivery(self, id: str) -> DeliveryInfo:
        """One of them, by its `webhook-id`. `DeliveryNotFoundError`."""
        store, _ = await self.open()
        return show_delivery(await get_delivery(store, id))

    # Endpoints

    async def add(
        self, url: str, *, events: Sequence[str] = ("*",), secret: str | None = None, description: str = ""
    ) -> str:
        """An endpoint of this URL, told of events that fit one of these patterns: its id. Without `secret` it gets a
        new one. `EndpointExistsError`, `WebhookTargetError`, `InvalidKeyError`."""
        _, endpoints = await self.open()
        async with acting(self._store(), "webhook.add"):
            made = await endpoints.add(
                self._app, url, policy=self.policy, events=events, secret=secret, description=description
            )
        return made.id

    async def secret(self, url: str) -> str:
        """What the receiver at this URL verifies with. `EndpointNotFoundError`."""
        _, endpoints = await self.open()
        return endpoints.secrets_of(await self._endpoint(endpoints, url))[0]

    async def rotate(self, url: str, *, secret: str | None = None, overlap: Duration = OVERLAP_MS / 1000) -> str:
        """A new secret for this URL; for `overlap` the former one signs beside it. `EndpointNotFoundError`."""
        overlap_ms = read_duration_ms(overlap, name="overlap", most_ms=OVERLAP_MS_MAX)
        _, endpoints = await self.open()
        found = await self._endpoint(endpoints, url)
        async with acting(self._store(), "webhook.rotate"):
            changed = await endpoints.rotate(found.id, secret=secret, overlap_ms=overlap_ms)
        return endpoints.secrets_of(changed)[0]

    async def remove(self, url: str) -> None:
        """Tell this URL nothing more; what is still to be delivered there fails. `EndpointNotFoundError`."""
        _, endpoints = await self.open()
        async with acting(self._store(), "webhook.remove"):
            await endpoints.remove((await self._endpoint(endpoints, url)).id)

    async def _endpoint(self, endpoints: Endpoints, url: str) -> Endpoint:
        found = await endpoints.find(id_of(self._app, url))
        if found is None:
            raise EndpointNotFoundError(url)
        return found

    # In

    def receiver(self, queue: str, *, secret: str | Sequence[str]) -> Receiver:
        """An ASGI application that takes a sender's webhooks into `queue`, each once: mount it where that sender's URL
        leads. Several secrets are for a rotation. `InvalidKeyError`, `InvalidSettingError`."""
        check_name("queue", queue)
        self._declare_queue(queue, RECEIVER_SETTINGS)

        async def open_store() -> Store:
            await self._ensure_open()
            return self._store().at(queue)

        secrets = [secret] if isinstance(secret, str) else list(secret)
        return Receiver(queue, secrets, open_store, self._ids, self._sealer)

    # For the app

    def handlers(self) -> list[Handler]:
        """The consumer of the deliveries, if the app sends any."""
        return [read_handler(self.queue, self._carrier, self._settings())] if self._sends else []

    def _settings(self) -> ConsumerSettings:
        return ConsumerSettings(
            script=self._app,
            max_batch_size=1,
            max_batch_timeout_ms=0,
            max_retries=len(self.terms.schedule_ms),
            dead_letter_queue=None,
            timeout_ms=TIMEOUT_MS,
            ordered=self._is_ordered,
            key_concurrency=None if self._is_ordered else AT_ONCE,
            max_concurrency=LINES_AT_ONCE if self._is_ordered else None,
        )

    async def open(self) -> tuple[Store, Endpoints]:
        """The store of the deliveries, and the endpoints; both made ready for the first delivery."""
        await self._ensure_open()
        home = self._store()
        store = home.at(self.queue)
        if self._declared_in is not home:
            self._begin_to_send()
            with contextlib.suppress(QueueExistsError):
                await store.create_queue(self.queue, QUEUE_SETTINGS)
            await home.declare_consumer(self.queue, self._settings())
            self._declared_in = home
        return store, Endpoints(home, self._keys)

    def _begin_to_send(self) -> None:
        if not self._sends:
            self._sends = True
            self._declare_queue(self.queue, QUEUE_SETTINGS)


def _payload(store: Store, event: str, data: object, *, bare: bool = False) -> str:
    """What is signed and sent. `BodyTooLargeError`."""
    now = datetime.fromtimestamp(store.clock.now_ms() / 1000, UTC)
    timestamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    payload = encode_json(data if bare else payload_of(event, timestamp, data))
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise BodyTooLargeError("a webhook's payload", len(payload), PAYLOAD_BYTES_MAX)
    return payload.decode()
