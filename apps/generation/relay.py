"""Hands the events of the database to conveyor's webhooks: in their order, each under the id that it was born with, so
that what is handed again after a crash is known there."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from conveyor import ConveyorError

from .ledger import Ledger
from .logbook import Component, Logbook
from .status import WEBHOOKS_FAILED, WEBHOOKS_RETRIED, WEBHOOKS_SENT, Statistics


class SendEvent(Protocol):
    """As `app.webhooks.send`."""

    def __call__(self, url: str, event: str, data: object, *, id: str, key: str, bare: bool) -> Awaitable[str]: ...


class Tried(Protocol):
    """One try of a delivery."""

    @property
    def attempt(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def status(self) -> int | None: ...
    @property
    def error(self) -> str | None: ...


class Delivery(Protocol):
    """As conveyor's webhooks tell of one."""

    @property
    def id(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def payload(self) -> str: ...
    @property
    def error(self) -> str | None: ...
    @property
    def tries(self) -> Sequence[Tried]: ...


class Relay:
    """What is told to Next.js."""

    def __init__(self, ledger: Ledger, statistics: Statistics, log: Logbook, *, send: SendEvent, url: str) -> None:
        self._ledger = ledger
        self._statistics = statistics
        self._log = log
        self._send = send
        self._url = url

    async def hand(self, id: str) -> bool:
        """All events of a generation that the webhooks have not got; whether they have them now. What they refuse
        stays where it is, and is handed again by the sweep."""
        for event_id, event, text in await self._ledger.unhanded(id):
            body = json.loads(text)
            fields = {"event": event, **_about(body), "webhookId": event_id, "webhookUrl": self._url}
            self._log.info(Component.WEBHOOK, "Sending webhook", **fields)
            try:
                await self._send(self._url, event, body, id=event_id, key=id, bare=True)
            except ConveyorError as error:
                self._log.error(Component.WEBHOOK, "Failed to send webhook", **fields, error=str(error))
                return False
            await self._ledger.hand(event_id)
        return True

    async def hear(self, delivery: Delivery) -> None:
        """What came of a try."""
        last = delivery.tries[-1] if delivery.tries else None
        fields: dict[str, Any] = {
            "event": delivery.event, **_about(json.loads(delivery.payload)), "webhookId": delivery.id,
            "webhookUrl": delivery.url,
        }  # fmt: skip
        if last is not None:
            fields |= {"attempt": last.attempt, "status": last.status, "duration": round(last.seconds * 1000)}
        count, failed = WEBHOOKS_SENT, "Failed to send webhook"
        match delivery.state:
            case "delivered":
                self._log.info(Component.WEBHOOK, "Webhook sent successfully", **fields)
            case "failed":
                count = WEBHOOKS_FAILED
                self._log.error(Component.WEBHOOK, failed, **fields, willRetry=False, error=delivery.error)
            case _:
                count, error = WEBHOOKS_RETRIED, None if last is None else last.error
                self._log.warning(Component.WEBHOOK, failed, **fields, willRetry=True, error=error)
        await self._statistics.count(count)


def _about(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body.get(name) for name in ("generationId", "userId")}


Hand = Callable[[str], Awaitable[bool]]
