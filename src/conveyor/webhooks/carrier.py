"""Handles the messages of deliveries: signs, calls, writes down what came of it, and says when to try again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from conveyor.model.beside import EndpointNotFoundError, WebhookFailedError, WebhookTargetError
from conveyor.model.duration import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from conveyor.model.errors import InvalidSettingError, StoreError
from conveyor.model.events import Emit, EndpointDisabled, HandlerRaised
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.verdict import RateLimited, Reject
from conveyor.queue.delivery import Message
from conveyor.queue.outcome import show_error
from conveyor.store import records
from conveyor.store.protocol import Store
from conveyor.webhooks.courier import Answer, Courier
from conveyor.webhooks.endpoints import DISABLE_MS, Endpoint, Endpoints
from conveyor.webhooks.log import (
    TRIES_KEPT,
    Carried,
    DeliveryInfo,
    DeliveryState,
    Parcel,
    make_try,
    parcel_of,
    read_webhook_id,
    show_delivery,
    webhook_id,
    with_parcel,
)
from conveyor.webhooks.signing import sign

SCHEDULE_MS: Final = (
    5 * SECOND_MS, 5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 14 * HOUR_MS, 20 * HOUR_MS,
    DAY_MS,
)  # fmt: skip
"""Before each retry, as Standard Webhooks proposes: three days in all."""
EXTRA: Final = 0.1
"""Up to so much of the delay is added."""
STORE_RETRY_S: Final = 1.0
GONE: Final = 410
AGENT: Final = "conveyor-webhooks/1"
_ASKS_FOR_TIME: Final = frozenset({429, 503})

OnTry: TypeAlias = Callable[[DeliveryInfo], Awaitable[None]]
"""Told of a delivery after each try, and when it is given up without one."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How long it is tried, and when an endpoint is given up."""

    schedule_ms: tuple[int, ...] = SCHEDULE_MS
    disable_after_ms: int = DISABLE_MS


class Desk(Protocol):
    """What a carrier is given to work with."""

    async def open(self) -> tuple[Store, Endpoints]:
        """The store of the deliveries, and the endpoints."""
        ...

    @property
    def courier(self) -> Courier: ...

    @property
    def terms(self) -> Terms: ...


class Carrier:
    """What the queue's consumer calls."""

    on_try: OnTry | None = None

    def __init__(self, desk: Desk, emit: Emit, chance: random.Random) -> None:
        self._desk = desk
        self._emit = emit
        self._chance = chance

    async def __call__(self, message: Message[Carried]) -> None:
        try:
            store, endpoints = await self._desk.open()  # in a child, nobody else has opened it
            delivery = await store.get_delivery(read_webhook_id(message.body.delivery))
            endpoint = None if delivery is None else await endpoints.find(delivery.endpoint)
        except StoreError as error:  # nothing was sent yet, so this is no attempt
            raise RateLimited(STORE_RETRY_S, reason=str(error)) from error
        if delivery is None or delivery.message_id.hex() != message.id:  # forgotten, or sent again by hand
            return
        problem = "the endpoint was removed" if endpoint is None else endpoint.disabled
        if endpoint is None or problem is not None:
            failed = with_parcel(delivery, replace(parcel_of(delivery), error=problem), _FAILED)
            if await _until_written(store, lambda: store.write_delivery(failed)):
                await self._tell(message, failed)
            raise Reject(problem or "")
        await self._try(message, store, endpoints, delivery, endpoint)

    async def _try(
        self,
        message: Message[Carried],
        store: Store,
        endpoints: Endpoints,
        delivery: records.Delivery,
        endpoint: Endpoint,
    ) -> None:
        parcel = parcel_of(delivery)
        at, begun = store.clock.now_ms(), store.clock.monotonic()
        headers, came = await self._send(endpoints, endpoint, delivery, parcel, at)
        seconds = round(store.clock.monotonic() - begun, 3)
        made = make_try(at, message.attempts, seconds, headers, came)
        error = made.error or (None if 200 <= (made.status or 0) < 300 else f"it answered {made.status}")
        is_last = message.attempts > len(self._desk.terms.schedule_ms) or made.status == GONE
        state = _DELIVERED if error is None else _FAILED if is_last else DeliveryState.PENDING
        written = replace(parcel, tries=(*parcel.tries, made)[-TRIES_KEPT:], error=error if state is _FAILED else None)
        # The endpoint first: whoever reads in the log that it is gone finds it disabled.
        await _until_written(store, lambda: self._note(endpoints, endpoint, made.status, error, at))
        tried = with_parcel(delivery, written, state)
        is_ours = await _until_written(store, lambda: store.write_delivery(tried))
        if is_ours:
            await self._tell(message, tried)
        if error is None or not is_ours:
            return
        if made.status == GONE:
            raise Reject(error)
        if not is_last:
            message.retry(self._delay_ms(message.attempts, came) / 1000)
        raise WebhookFailedError(error)

    async def _tell(self, message: Message[Carried], delivery: records.Delivery) -> None:
        """Whatever comes of it: the call was made, and is not made again for want of a listener."""
        if self.on_try is None:
            return
        try:
            await self.on_try(show_delivery(delivery))
        except Exception as error:  # noqa: BLE001 the app's
            self._emit(HandlerRaised(queue=message.queue, message_ids=(message.id,), error=show_error(error)))

    async def _send(
        self, endpoints: Endpoints, endpoint: Endpoint, delivery: records.Delivery, parcel: Parcel, at: int
    ) -> tuple[dict[str, str], Answer | str]:
        body, name = parcel.payload.encode(), webhook_id(delivery.id)
        headers = {"content-type": "application/json", "user-agent": AGENT, "webhook-id": name}
        try:
            secrets = endpoints.secrets_of(endpoint)
            timestamp = at // 1000
            headers |= {
                "webhook-timestamp": str(timestamp),
                "webhook-signature": sign(secrets, name, timestamp, body),
            }
            return headers, await self._desk.courier.post(endpoint.url, headers, body)
        except (WebhookTargetError, WebhookFailedError, InvalidSettingError) as error:
            return headers, error.message

    async def _note(
        self, endpoints: Endpoints, endpoint: Endpoint, status: int | None, error: str | None, at: int
    ) -> bool:
        """What a try means for its endpoint: well again, failing since, or given up."""
        after_ms = self._desk.terms.disable_after_ms

        def change(present: Endpoint) -> Endpoint:
            if error is None:
                return replace(present, failing_since=None)
            since = at if present.failing_since is None else present.failing_since
            changed = replace(present, failing_since=since)
            if present.disabled is not None:
                return changed
            if status == GONE:
                return replace(changed, disabled="it answered 410: gone", disabled_at=at)
            if at - since >= after_ms:
                return replace(changed, disabled=f"nothing was taken for {after_ms // 3_600_000} h", disabled_at=at)
            return changed

        if change(endpoint) == endpoint:  # the usual: it was well, and is
            return False
        try:
            changed = await endpoints.change(endpoint.id, change)
        except EndpointNotFoundError:
            return False
        if changed.disabled is not None and endpoint.disabled is None:
            self._emit(EndpointDisabled(endpoint=changed.id, url=changed.url, reason=changed.disabled))
        return True

    def _delay_ms(self, attempt: int, came: Answer | str) -> float:
        """By the schedule, or later, if that is what the receiver asks for."""
        delay = self._desk.terms.schedule_ms[attempt - 1] * (1 + EXTRA * self._chance.random())
        if isinstance(came, Answer) and came.status in _ASKS_FOR_TIME:
            asked = came.headers.get("retry-after", "").strip()
            if asked.isascii() and asked.isdigit() and len(asked) <= 9:
                delay = max(delay, int(asked) * 1000)
        return min(delay, DELAY_MS_MAX)


async def _until_written(store: Store, write: Callable[[], Awaitable[bool]]) -> bool:
    """What was sent must not be sent again for want of a row."""
    while True:
        try:
            return await write()
        except StoreError:
            await store.clock.sleep(STORE_RETRY_S)


_DELIVERED: Final = DeliveryState.DELIVERED
_FAILED: Final = DeliveryState.FAILED
