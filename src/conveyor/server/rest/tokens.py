"""Tokens: made, listed, rotated, revoked. A secret is shown once, to whoever made it."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from conveyor.model.duration import DAY_MS
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, maybe_moment, moment
from conveyor.server.rights import Right
from conveyor.server.tokens import NAME_CHARS_MAX, PATTERNS_MAX, Secret, Token, Tokens

LIFE_MS_MAX: Final = 3_660 * DAY_MS
OVERLAP_MS_DEFAULT: Final = DAY_MS

Pattern: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]


class NewToken(Asked, frozen=True, kw_only=True):
    """A token to be made."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    rights: Annotated[list[Right], Meta(min_length=1, max_length=len(Right))]
    queues: Annotated[list[Pattern], Meta(min_length=1, max_length=PATTERNS_MAX)] | None = None
    """Names, or patterns with `*` and `?`; null is all, and the rest of the store."""
    expires_in_ms: Annotated[int, Meta(ge=1, le=LIFE_MS_MAX)] | None = None


class RotateAsked(Asked, frozen=True, kw_only=True):
    """How a token gives way to its successor."""

    overlap_ms: Annotated[int, Meta(ge=0, le=30 * DAY_MS)] = OVERLAP_MS_DEFAULT
    """For so long the old one still works."""


class TokenShown(Told, frozen=True, kw_only=True):
    """What is known of a token."""

    id: str
    name: str
    rights: list[Right]
    queues: list[str] | None
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    last_used_at: Moment | None


class TokenMade(Told, frozen=True, kw_only=True):
    """A token, and its secret, which cannot be read again."""

    token: str
    id: str
    name: str
    rights: list[Right]
    queues: list[str] | None
    created_at: Moment
    expires_at: Moment | None


class TokenRoom:
    """The endpoints, with the tokens that they are about."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def list_tokens(self, call: Call) -> Answer:
        """Tokens by their ids, without their secrets."""
        asked = read_query(call, PageAsked)
        after = read_cursor("tokens", asked.cursor, str) or ""
        found = sorted((each for each in await self._tokens.list() if each.id > after), key=lambda token: token.id)
        page = cut_page("tokens", found, asked.limit, lambda token: token.id)
        return Answer.json(Page(items=[_show(each) for each in page.items], next_cursor=page.next_cursor))

    async def create_token(self, call: Call) -> Answer:
        """Make a token; its secret is in this answer, and nowhere else."""
        asked = call.decode(NewToken)
        call.target = asked.name
        now = call.store.clock.now_ms()
        token, secret = await self._tokens.create(
            asked.name,
            frozenset(asked.rights),
            queues=None if asked.queues is None else tuple(asked.queues),
            expires_at=None if asked.expires_in_ms is None else now + asked.expires_in_ms,
            created_by=call.caller.token_id or "",
        )
        call.target = token.id
        return Answer.json(_made(token, secret), 201)

    async def get_token(self, call: Call) -> Answer:
        """One token, without its secret."""
        return Answer.json(_show(await self._tokens.get(call.path["token"])))

    async def rotate_token(self, call: Call) -> Answer:
        """Make a successor with the same rights; the old token ends after the overlap."""
        asked = call.decode(RotateAsked) if call.body else RotateAsked()
        made = await self._tokens.rotate(
            call.path["token"], overlap_ms=asked.overlap_ms, created_by=call.caller.token_id or ""
        )
        return Answer.json(_made(*made), 201)

    async def revoke_token(self, call: Call) -> Answer:
        """Revoke a token: it is refused everywhere within 5 s, and its streams are closed."""
        await self._tokens.revoke(call.path["token"])
        return Answer(204)

    def operations(self) -> tuple[Operation, ...]:
        """All of them."""
        return (
            Operation(
                method="GET", path="/tokens", right=Right.ADMIN, scope="store", handle=self.list_tokens, query=PageAsked,
                gives=Page[TokenShown],
            ),
            Operation(
                method="POST", path="/tokens", right=Right.ADMIN, scope="store", handle=self.create_token, action="token.create",
                takes=NewToken, gives=TokenMade, status=201,
            ),
            Operation(
                method="GET", path="/tokens/{token}", right=Right.ADMIN, scope="store", handle=self.get_token, gives=TokenShown
            ),
            Operation(
                method="POST", path="/tokens/{token}/rotate", right=Right.ADMIN, scope="store", handle=self.rotate_token,
                action="token.rotate", takes=RotateAsked, may_be_empty=True, gives=TokenMade, status=201,
            ),
            Operation(
                method="DELETE", path="/tokens/{token}", right=Right.ADMIN, scope="store", handle=self.revoke_token,
                action="token.revoke",
            ),
        )  # fmt: skip


def _patterns(token: Token) -> list[str] | None:
    return None if token.queues is None else list(token.queues)


def _show(token: Token) -> TokenShown:
    return TokenShown(
        id=token.id,
        name=token.name,
        rights=list(token.rights),
        queues=_patterns(token),
        created_at=moment(token.created_at),
        created_by=token.created_by,
        expires_at=maybe_moment(token.expires_at),
        last_used_at=maybe_moment(token.last_used_at),
    )


def _made(token: Token, secret: Secret) -> TokenMade:
    return TokenMade(
        token=str(secret),
        id=token.id,
        name=token.name,
        rights=list(token.rights),
        queues=_patterns(token),
        created_at=moment(token.created_at),
        expires_at=maybe_moment(token.expires_at),
    )
