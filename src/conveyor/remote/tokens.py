"""Tokens over another conveyor's own API: whoever has the right `admin` there makes, lists, rotates and revokes
them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec

from conveyor.remote.client import Client
from conveyor.remote.wire import Page, read_moment

PAGE_ROWS: Final = 1_000


class _Token(msgspec.Struct, frozen=True):
    """As the API shows one; `token` is its secret, where it was made just now."""

    id: str
    name: str
    rights: list[str]
    created_at: str
    queues: list[str] | None = None
    created_by: str = ""
    expires_at: str | None = None
    last_used_at: str | None = None
    token: str = ""


class FarToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token of another conveyor; moments in milliseconds."""

    id: str
    name: str
    rights: list[str]
    queues: list[str] | None
    created_at: int
    created_by: str
    expires_at: int | None
    last_used_at: int | None


class OwnTokens:
    """The tokens of another conveyor. Errors are those of its answers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_all(self) -> list[FarToken]:
        """All of them, the oldest first; those that have expired too."""
        found: list[_Token] = []
        query = {"limit": str(PAGE_ROWS)}
        while True:
            page: Page[_Token]
            page, _ = await self._client.call_ours("GET", "/tokens", Page[_Token], query=query)
            found += page.items
            if page.next_cursor is None:
                return sorted(map(_read, found), key=lambda token: (token.created_at, token.id))
            query["cursor"] = page.next_cursor

    async def create(
        self, name: str, rights: list[str], *, queues: list[str] | None, expires_in_ms: int | None
    ) -> tuple[FarToken, str]:
        """The token, and its secret. It is not asked for twice, since two would be made."""
        body = {"name": name, "rights": rights, "queues": queues, "expires_in_ms": expires_in_ms}
        return await self._make("/tokens", body)

    async def rotate(self, token_id: str, *, overlap_ms: int) -> tuple[FarToken, str]:
        """As `create`."""
        return await self._make(f"{_path(token_id)}/rotate", {"overlap_ms": overlap_ms})

    async def revoke(self, token_id: str) -> FarToken:
        """What it was."""
        shown: _Token
        shown, _ = await self._client.call_ours("GET", _path(token_id), _Token)
        await self._client.call_ours("DELETE", _path(token_id), None)
        return _read(shown)

    async def _make(self, path: str, body: object) -> tuple[FarToken, str]:
        made: _Token
        made, _ = await self._client.call_ours("POST", path, _Token, body=body, is_repeatable=False)
        return _read(made), made.token


def _path(token_id: str) -> str:
    return f"/tokens/{quote(token_id, safe='')}"


def _read(shown: _Token) -> FarToken:
    return FarToken(
        id=shown.id,
        name=shown.name,
        rights=shown.rights,
        queues=shown.queues,
        created_at=read_moment(shown.created_at),
        created_by=shown.created_by,
        expires_at=None if shown.expires_at is None else read_moment(shown.expires_at),
        last_used_at=None if shown.last_used_at is None else read_moment(shown.last_used_at),
    )
