"""Hands the events of the database to conveyor's webhooks: in their order, each under the id that it was born with, so
that what is handed again after a crash is known there."""

import json
from collections.abc import Awaitable, Callable
from typing import Protocol

from conveyor import ConveyorError

from .ledger import Ledger
from .logbook import Component, Logbook


class SendEvent(Protocol):
    """As `app.webhooks.send`."""

    def __call__(self, url: str, event: str, data: object, *, id: str, key: str, bare: bool) -> Awaitable[str]: ...


class Relay:
    """What is told to Next.js."""

    def __init__(self, ledger: Ledger, log: Logbook, *, send: SendEvent, url: str) -> None:
        self._ledger = ledger
        self._log = log
        self._send = send
        self._url = url

    async def hand(self, id: str) -> bool:
        """All events of a generation that the webhooks have not got; whether they have them now. What they refuse
        stays where it is, and is handed again by the sweep."""
        for event_id, event, body in await self._ledger.unhanded(id):
            try:
                await self._send(self._url, event, json.loads(body), id=event_id, key=id, bare=True)
            except ConveyorError as error:
                self._log.error(
                    Component.WEBHOOK, "Failed to send webhook", event=event, generationId=id, webhookId=event_id,
                    webhookUrl=self._url, error=str(error),
                )  # fmt: skip
                return False
            await self._ledger.hand(event_id)
            self._log.info(
                Component.WEBHOOK, "Sending webhook", event=event, generationId=id, webhookId=event_id,
                webhookUrl=self._url,
            )  # fmt: skip
        return True


Hand = Callable[[str], Awaitable[bool]]
