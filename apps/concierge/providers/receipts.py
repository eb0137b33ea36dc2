"""Receipts come in: each provider's signed webhook becomes a message of a queue of its own, once, and from there it is
handed on.

Twilio tells nothing twice, and Resend for a day alone: hence the queues, which keep what was told until it is written
down.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from conveyor import Backoff, Conveyor, Message, QueueFullError, QueueSettings, Reject, StoreError
from conveyor_apps.concierge.settings import Settings

from .opening import RESEND_PATH, TWILIO_PATH
from .parcel import Receipt
from .resend import read_event
from .twilio import BODY_BYTES_MAX, is_signed, read_callback, read_form

RESEND_QUEUE: Final = "resend-events"
TWILIO_QUEUE: Final = "twilio-callbacks"
RETRIES: Final = 8
BACKOFF: Final = Backoff(base_ms=1_000, factor=3.0, most_ms=600_000)
REPLAY_MS: Final = 86_400_000
"""Twilio's callbacks bear no time: one that comes again within a day is not taken again, and later changes nothing."""
SVIX: Final = b"svix-"
STANDARD: Final = b"webhook-"

Keep = Callable[[Receipt], Awaitable[None]]
"""Writes a receipt down, also one that came before its message's reference was known."""


def declare_receipts(app: Conveyor, settings: Settings, keep: Keep) -> list[BaseRoute]:
    """The ways in for the providers that have a secret, and the consumers behind them."""
    routes: list[BaseRoute] = []
    given = settings.providers
    if given.resend_webhook_secret:
        receiver = app.webhooks.receiver(RESEND_QUEUE, secret=given.resend_webhook_secret.reveal())
        routes.append(Route(RESEND_PATH, Svix(receiver)))

        @app.consumer(RESEND_QUEUE, max_batch_size=1, max_retries=RETRIES, retry_delay=BACKOFF)
        async def hear_resend(message: Message[Any]) -> None:
            receipt = _event(message.body)
            if receipt is not None:
                await keep(receipt)

    if given.twilio_token:
        app.declare_queue(TWILIO_QUEUE, QueueSettings(dedupe_window_ms=REPLAY_MS))
        callbacks = TwilioCallbacks(app, settings.desk.public_url, given.twilio_token.reveal())
        routes.append(Route(TWILIO_PATH, callbacks.take, methods=["POST"]))

        @app.consumer(TWILIO_QUEUE, max_batch_size=1, max_retries=RETRIES, retry_delay=BACKOFF)
        async def hear_twilio(message: Message[Receipt]) -> None:
            await keep(message.body)

    return routes


def _event(body: object) -> Receipt | None:
    try:
        return read_event(body if isinstance(body, bytes) else msgspec.json.encode(body))
    except ValueError as error:
        raise Reject("signed, and yet no event of Resend's") from error


class Svix:
    """Resend signs as Svix does: the Standard Webhooks' own signature, under headers of another name."""

    def __init__(self, receiver: ASGIApp) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the headers the names that the receiver looks for; those that came under them count for nothing."""
        headers = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(STANDARD)]
        renamed = [(_standard(name), value) for name, value in headers]
        await self._receiver({**scope, "headers": renamed}, receive, send)


def _standard(name: bytes) -> bytes:
    lower = name.lower()
    return STANDARD + lower[len(SVIX) :] if lower.startswith(SVIX) else name


class TwilioCallbacks:
    """Takes Twilio's status callbacks."""

    def __init__(self, app: Conveyor, public_url: str, token: str) -> None:
        self._app = app
        self._public_url = public_url
        self._token = token

    async def take(self, request: Request) -> Response:
        """204 once it is in the queue, or if there is nothing to keep; 401 for what is not signed, 503 where the store
        takes nothing. Nothing says more."""
        try:
            body = await _read(request)
            fields = read_form(body)
            url = self._called(request)
            signed = is_signed(url, fields, request.headers.get("x-twilio-signature", ""), self._token)
        except (ValueError, ClientDisconnect):
            return Response(status_code=401)
        if not signed:
            return Response(status_code=401)
        try:
            receipt = read_callback(url, fields)
            if receipt is not None:
                await self._app.queue(TWILIO_QUEUE).send(receipt, dedupe=_name(receipt, dict(fields)))
        except ValueError:
            return Response(status_code=204)  # signed, and about something else
        except (StoreError, QueueFullError):
            return Response(status_code=503, headers={"retry-after": "10"})
        return Response(status_code=204)

    def _called(self, request: Request) -> str:
        """The URL that Twilio was given: what a proxy made of it on its way is not what was signed."""
        query = request.scope["query_string"].decode("ascii")
        return f"{self._public_url}{TWILIO_PATH}" + (f"?{query}" if query else "")


def _name(receipt: Receipt, fields: Mapping[str, str]) -> str:
    return f"{receipt.reference}:{fields['MessageStatus']}"


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ValueError("too long")
    return bytes(body)
