"""A new key: what the old ones have sealed is sealed anew, so that they can be thrown away.

It goes through what waits a page at a time, and changes a message only as long as it is the one that was read: it may
run beside workers, be interrupted at any time and be begun anew, and does nothing twice.
"""

from __future__ import annotations

from typing import Final

import msgspec

from conveyor.model.beside import EndpointNotFoundError, SealedBodyError
from conveyor.model.errors import InvalidSettingError, VersionConflictError
from conveyor.model.ids import MessageId
from conveyor.model.message import PEEK_MESSAGES_MAX, Peeked
from conveyor.queue.sealing import Sealer
from conveyor.secrets import SECRETS, Keys, Sealed
from conveyor.store.groups import Unsent
from conveyor.store.protocol import Store
from conveyor.store.witness import watched
from conveyor.webhooks.endpoints import Endpoints

_PAGE: Final = 1_000
_LOOKS_MAX: Final = 10


class Rotated(msgspec.Struct, kw_only=True):
    """What became of what the old keys had sealed."""

    messages: int = 0
    """Also those of members of groups that are still to be sent."""
    secrets: int = 0
    webhooks: int = 0
    """Endpoints."""
    busy: int = 0
    """Messages that somebody works on just now, has changed meanwhile, or still seals with an old key: another run
    finds those that come back."""
    locked: int = 0
    """What no key that is here opens."""


async def rotate(store: Store, keys: Keys, sealer: Sealer, *, is_rehearsal: bool = False) -> Rotated:
    """Seal anew with the first key what waits in queues, dead letters included, what waits to be sent in groups, and
    the secrets of apps and webhooks. A rehearsal counts, and changes nothing. `InvalidSettingError` without a key.

    It looks twice, and until it finds nothing: what moves meanwhile, from a queue that is still to be read to one that
    was, is met by the next look.
    """
    done, found = Rotated(), Rotated()
    first = next(iter(keys.ids), None)
    if first is None:
        raise InvalidSettingError("keys", [], "there is none", hint="`conveyor keys make`")
    with watched(None):  # the audit trail is told of the rotation, not of each message
        for look in range(_LOOKS_MAX):
            found = await _rotate_messages(store, sealer, is_rehearsal=is_rehearsal)
            done.messages += found.messages
            done.busy, done.locked = found.busy, found.locked
            if is_rehearsal or (look and not found.messages):
                break
        else:
            done.busy += found.messages  # as many may have come meanwhile
        await _rotate_secrets(store, keys, first, done, is_rehearsal=is_rehearsal)
        await _rotate_endpoints(store, keys, first, done, is_rehearsal=is_rehearsal)
    return done


async def _rotate_messages(store: Store, sealer: Sealer, *, is_rehearsal: bool) -> Rotated:
    """Groups first: what they send meanwhile is found in its queue."""
    found = Rotated()
    await _rotate_groups(store, sealer, found, is_rehearsal=is_rehearsal)
    for info in await store.list_queues():
        if not store.at(info.name).keeps_others:
            await _rotate_queue(store, info.name, sealer, found, is_rehearsal=is_rehearsal)
    return found


async def _rotate_groups(store: Store, sealer: Sealer, done: Rotated, *, is_rehearsal: bool) -> None:
    after: tuple[MessageId, int] | None = None
    while page := await store.groups.unsent(limit=PEEK_MESSAGES_MAX, after=after):
        for each in page:
            await _rotate_unsent(store, each, sealer, done, is_rehearsal=is_rehearsal)
        after = page[-1].group, page[-1].place


async def _rotate_unsent(store: Store, was: Unsent, sealer: Sealer, done: Rotated, *, is_rehearsal: bool) -> None:
    try:
        message = was.message
        body = sealer.reseal(message.queue, message.body)
    except SealedBodyError:
        done.locked += 1
        return
    if body is not None and (is_rehearsal or await store.groups.edit_unsent(was, body)):
        done.messages += 1  # what was sent meanwhile is met in its queue


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
