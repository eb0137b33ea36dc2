"""A new key: what the old ones have sealed is sealed anew, so that they can be thrown away.

It goes through what waits a page at a time, and changes a message only as long as it is the one that was read: it may
run beside workers, be interrupted at any time and be begun anew, and does nothing twice.
"""

from __future__ import annotations

from typing import Final

import msgspec

from conveyor.model.beside import EndpointNotFoundError, SealedBodyError
from conveyor.model.errors import InvalidSettingError, VersionConflictError
from conveyor.model.message import PEEK_MESSAGES_MAX, Peeked
from conveyor.queue.sealing import Sealer
from conveyor.secrets import SECRETS, Keys, Sealed
from conveyor.store.protocol import Store
from conveyor.store.witness import watched
from conveyor.webhooks.endpoints import Endpoints

_PAGE: Final = 1_000


class Rotated(msgspec.Struct, kw_only=True):
    """What became of what the old keys had sealed."""

    messages: int = 0
    secrets: int = 0
    webhooks: int = 0
    """Endpoints."""
    busy: int = 0
    """Messages that somebody works on just now, or has changed meanwhile: another run finds those that come back."""
    locked: int = 0
    """What no key that is here opens."""


async def rotate(store: Store, keys: Keys, sealer: Sealer, *, is_rehearsal: bool = False) -> Rotated:
    """Seal anew with the first key what waits in queues, dead letters included, and the secrets of apps and webhooks.
    A rehearsal counts, and changes nothing. `InvalidSettingError` without a key."""
    done = Rotated()
    first = next(iter(keys.ids), None)
    if first is None:
        raise InvalidSettingError("keys", [], "there is none", hint="`conveyor keys make`")
    with watched(None):  # the audit trail is told of the rotation, not of each message
        for info in await store.list_queues():
            if not store.at(info.name).keeps_others:
                await _rotate_queue(store, info.name, sealer, done, is_rehearsal=is_rehearsal)
        await _rotate_secrets(store, keys, first, done, is_rehearsal=is_rehearsal)
        await _rotate_endpoints(store, keys, first, done, is_rehearsal=is_rehearsal)
    return done


async def _rotate_queue(store: Store, queue: str, sealer: Sealer, done: Rotated, *, is_rehearsal: bool) -> None:
    after = 0
    while page := await store.peek(queue, limit=PEEK_MESSAGES_MAX, after_seq=after):
        for message in page:
            await _rotate_message(store, message, sealer, done, is_rehearsal=is_rehearsal)
        after = page[-1].seq


async def _rotate_message(store: Store, was: Peeked, sealer: Sealer, done: Rotated, *, is_rehearsal: bool) -> None:
    try:
        body = sealer.reseal(was.queue, was.body)
        if body is None:
            return
        if not is_rehearsal:
            await store.edit_message(was, body=body, content_type=was.content_type, headers=was.headers)
    except SealedBodyError:
        done.locked += 1
    except VersionConflictError:
        done.busy += 1
    else:
        done.messages += 1


async def _rotate_secrets(store: Store, keys: Keys, first: str, done: Rotated, *, is_rehearsal: bool) -> None:
    after: str | None = None
    while page := await store.list_documents(SECRETS, limit=_PAGE, after=after):
        for each in page:
            sealed = msgspec.json.decode(each.body, type=Sealed)
            if sealed.key_id == first:
                continue
            try:
                text = keys.open(each.name, sealed)
                if not is_rehearsal:
                    body = msgspec.json.encode(keys.seal(each.name, text))
                    await store.put_document(SECRETS, each.name, body, version=each.version)
            except InvalidSettingError:
                done.locked += 1
            except VersionConflictError:
                done.busy += 1
            else:
                done.secrets += 1
        after = page[-1].name


async def _rotate_endpoints(store: Store, keys: Keys, first: str, done: Rotated, *, is_rehearsal: bool) -> None:
    endpoints, after = Endpoints(store, keys), None
    while page := await endpoints.page(limit=_PAGE, after=after):
        for each in page:
            if all(kept.sealed.key_id == first for kept in each.secrets):
                continue
            try:
                if is_rehearsal:
                    endpoints.resealed(each)
                else:
                    await endpoints.change(each.id, endpoints.resealed)  # as it is by then
            except InvalidSettingError:
                done.locked += 1
            except EndpointNotFoundError:
                continue
            else:
                done.webhooks += 1
        after = page[-1].id
