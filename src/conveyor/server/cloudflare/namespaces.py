"""KV namespaces on Cloudflare's wire: an id beside a title. The values of a title are those of `app.kv("TITLE")`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from conveyor.kv import NAMESPACES
from conveyor.model.errors import VersionConflictError
from conveyor.server.cloudflare.dialect import Refusal
from conveyor.store.protocol import Store

KIND: Final = NAMESPACES
NAMESPACES_MAX: Final = 1_000
TITLE_BYTES_MAX: Final = 512
NOT_FOUND: Final = 10_013
_TAKEN: Final = 10_014
_BAD_TITLE: Final = 10_019
_PAGE: Final = 200


class Namespace(msgspec.Struct, frozen=True):
    """As it is kept, under its title."""

    id: str
    title: str
    jurisdiction: str | None = None
    """As whoever made it said; the values lie where the store does."""


class Namespaces:
    """Those that were made over this wire."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self) -> list[Namespace]:
        """By title."""
        found = await self._store.list_documents(KIND, limit=NAMESPACES_MAX)
        return [msgspec.json.decode(each.body, type=Namespace) for each in found]

    async def find(self, wanted: str) -> Namespace:
        """By id. `Refusal` if there is none."""
        found = {each.id: each for each in await self.list()}.get(wanted.lower())
        if found is None:
            raise Refusal(NOT_FOUND, "namespace not found", status=404)
        return found

    async def create(self, title: str, jurisdiction: str | None = None) -> Namespace:
        """`Refusal` if the title is taken, or none."""
        _check_title(title)
        if len(await self.list()) >= NAMESPACES_MAX:
            raise Refusal(_BAD_TITLE, f"there are {NAMESPACES_MAX:,} namespaces already")
        return await self._claim(Namespace(secrets.token_hex(16), title, jurisdiction))

    async def rename(self, present: Namespace, title: str) -> Namespace:
        """The id stays; values are copied to the new title first, and then taken from the old one: what is written
        meanwhile is lost."""
        _check_title(title)
        if title == present.title:
            return present
        if await self._store.get_document(KIND, title) is not None:
            raise _taken()
        async for keys in self._pages(present.title):
            await asyncio.gather(*(self._copy(present.title, title, key) for key in keys))
        renamed = await self._claim(replace(present, title=title))
        await self.delete(present)
        return renamed

    async def delete(self, present: Namespace) -> None:
        """With all its values."""
        await self._store.delete_document(KIND, present.title)
        async for keys in self._pages(present.title):
            await asyncio.gather(*(self._store.kv_delete(present.title, key) for key in keys))

    async def _claim(self, namespace: Namespace) -> Namespace:
        try:
            await self._store.put_document(KIND, namespace.title, msgspec.json.encode(namespace), version=0)
        except VersionConflictError:
            raise _taken() from None
        return namespace

    async def _copy(self, source: str, target: str, key: str) -> None:
        found = await self._store.kv_get(source, key)
        if found is not None:
            await self._store.kv_put(target, found)

    async def _pages(self, title: str) -> AsyncIterator[Sequence[str]]:
        after: str | None = None
        while True:
            found = await self._store.kv_list(title, prefix="", limit=_PAGE, after=after)
            if not found:
                return
            after = found[-1].key
            yield [each.key for each in found]


def _taken() -> Refusal:
    return Refusal(_TAKEN, "create namespace: 'a namespace with this account ID and title already exists'")


def _check_title(title: str) -> None:
    if not title.strip() or len(title.encode(errors="replace")) > TITLE_BYTES_MAX or not title.isprintable():
        words = f"a namespace's title has 1 to {TITLE_BYTES_MAX} bytes that can be printed"
        raise Refusal(_BAD_TITLE, words)
