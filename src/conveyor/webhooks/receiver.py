"""Webhooks that come in: an ASGI application that verifies a request, and answers once its message is in the queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from conveyor.model.beside import WebhookRefusedError
from conveyor.model.duration import MINUTE_MS
from conveyor.model.errors import InvalidSettingError, QueueFullError, StoreError, VersionConflictError
from conveyor.model.ids import IdSource
from conveyor.model.message import ContentType, Draft
from conveyor.model.settings import QueueSettings
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.store.protocol import Store
from conveyor.webhooks.signing import read_secret, verify

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_MAX: Final = 1 << 20
WINDOW_MS: Final = 15 * MINUTE_MS
"""An id is remembered for longer than its timestamp is valid, past or future."""
SETTINGS: Final = QueueSettings(dedupe_window_ms=WINDOW_MS, max_message_bytes=BODY_MAX)
_TOO_LARGE: Final = 413


class Receiver:
    """One way in: mount it where the sender's URL leads, each sender with a secret of its own.

    202 once the message is in the store, also for one that was there already; 401 for what is not signed or too old,
    405 for another method than POST, 413 for more than 1 MiB, 503 where the store or the queue takes nothing. Refusals
    say nothing more.
    """

    def __init__(
        self, queue: str, secrets: Sequence[str], open_store: Callable[[], Awaitable[Store]], ids: IdSource,
        sealer: Sealer = NO_KEYS,
    ) -> None:  # fmt: skip
        if not secrets:
            raise InvalidSettingError("secret", "...", "there is none", hint="`conveyor.webhooks.make_secret()`")
        for each in secrets:
            read_secret(each)
        self._queue = queue
        self._secrets = tuple(secrets)
        self._open_store = open_store
        self._ids = ids
        self._sealer = sealer if sealer.covers(queue) else None
        self._is_ready = False
        self._body_max = BODY_MAX

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise InvalidSettingError("receiver", scope["type"], "answers HTTP alone", hint="mount it in an app")
        status, headers = await self._answer(scope, receive)
        given = [(b"content-length", b"0"), (b"cache-control", b"no-store"), *headers]
        await send({"type": "http.response.start", "status": status, "headers": given})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, list[tuple[bytes, bytes]]]:
        if scope["method"] != "POST":
            return 405, [(b"allow", b"POST")]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            store = await self._open_store()
            await self._prepare(store)
            body = await _read(receive, headers, self._body_max)
            if body is None:
                return _TOO_LARGE, []
            webhook_id = verify(self._secrets, headers, body, now_ms=store.clock.now_ms())
            await store.append([self._draft(webhook_id, headers, body)])
        except WebhookRefusedError:
            return 401, []
        except (StoreError, QueueFullError):
            return 503, [(b"retry-after", b"10")]
        return 202, []

    async def _prepare(self, store: Store) -> None:
        """Its queue must remember ids for long enough; what is remembered is committed with the message."""
        while not self._is_ready:
            found = await store.get_queue(self._queue)
            if found.settings.dedupe_window_ms < WINDOW_MS:
                try:
                    settings = replace(found.settings, dedupe_window_ms=WINDOW_MS)
                    await store.update_queue(self._queue, settings, version=found.version)
                except VersionConflictError:
                    continue
            self._body_max = min(BODY_MAX, found.settings.max_message_bytes)
            self._is_ready = True

    def _draft(self, webhook_id: str, headers: dict[str, str], body: bytes) -> Draft:
        try:
            msgspec.json.decode(body)
            content_type = ContentType.JSON
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            content_type = ContentType.BYTES
        said = {"webhook_id": webhook_id, "webhook_timestamp": int(headers.get("webhook-timestamp", "0"))}
        draft = Draft(
            id=self._ids.new(),
            queue=self._queue,
            body=body,
            content_type=content_type,
            dedupe=webhook_id,
            headers=msgspec.json.encode(said),
        )
        return draft if self._sealer is None else self._sealer.seal_draft(draft)


async def _read(receive: Receive, headers: dict[str, str], most: int) -> bytes | None:
    """The raw body; None if it is too long."""
    said = headers.get("content-length", "")
    if said.isdigit() and int(said[:20]) > most:
        return None
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise WebhookRefusedError
        body += event.get("body", b"")
        if len(body) > most:
            return None
        if not event.get("more_body", False):
            return bytes(body)
