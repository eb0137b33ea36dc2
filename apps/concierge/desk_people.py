"""HTTP for people: signing in and out, accounts, tokens."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .answers import answer, read_json
from .entry import Address, address_of, check_site, drop_cookie, set_cookie, too_many
from .errors import RefusedError
from .people import NewUser, Person
from .rights import RIGHTS, Right
from .room import Room
from .words import Role

TOKEN_DAYS = 90


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/login`."""

    name: str
    password: str


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PUT /api/users/{name}`."""

    role: Role
    address: str
    disabled: bool = False


class Password(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/users/{name}/password`."""

    password: str


class OwnPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/me/password`."""

    old: str
    new: str


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/tokens`."""

    title: str
    days: int = TOKEN_DAYS


class PeopleDesk:
    """Answers calls about people."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room

    def addresses(self) -> list[Address]:
        """All of them but the login."""
        return [
            Address("POST", "/api/logout", None, self.log_out),
            Address("GET", "/api/me", None, self.me),
            Address("POST", "/api/me/password", None, self.change_password),
            Address("GET", "/api/tokens", None, self.tokens),
            Address("POST", "/api/tokens", None, self.add_token),
            Address("DELETE", "/api/tokens/{id}", None, self.drop_token),
            Address("GET", "/api/users", Right.PEOPLE, self.users),
            Address("POST", "/api/users", Right.PEOPLE, self.add_user),
            Address("PUT", "/api/users/{name}", Right.PEOPLE, self.change_user),
            Address("POST", "/api/users/{name}/password", Right.PEOPLE, self.set_password),
        ]

    async def log_in(self, request: Request) -> Response:
        """A new session, in a cookie. 401 does not say what was wrong; ten tries a minute of one address and name."""
        if "sec-fetch-site" in request.headers or "origin" in request.headers:
            check_site(request)
        body: Login = await read_json(request, Login)
        room, address = self._room(), address_of(request)
        wait_s = max(room.logins.take(f"from {address}"), room.logins.take(f"as {body.name[:128]}"))
        if wait_s:
            raise too_many(wait_s)
        secret, role = await room.people.log_in(body.name, body.password, address)
        response = answer({"name": body.name, "role": role, "rights": sorted(RIGHTS[role])})
        set_cookie(response, room.settings.desk, secret)
        return response

    async def log_out(self, request: Request, person: Person) -> Response:
        """The session ends on the server too."""
        if not person.by_cookie:
            raise RefusedError("A token has no session: revoke it instead.", status=409)
        await self._room().people.log_out(person, address_of(request))
        response = answer({"name": person.name})
        drop_cookie(response, self._room().settings.desk)
        return response

    async def me(self, request: Request, person: Person) -> Response:
        """Who I am, and what I may do."""
        return answer({"name": person.name, "role": person.role, "rights": sorted(RIGHTS[person.role])})

    async def change_password(self, request: Request, person: Person) -> Response:
        """My own; my sessions and tokens end. 204."""
        body: OwnPassword = await read_json(request, OwnPassword)
        wait_s = self._room().logins.take(f"as {person.name}")
        if wait_s:
            raise too_many(wait_s)
        await self._room().people.change_password(person, body.old, body.new, address_of(request))
        return Response(status_code=204)

    async def tokens(self, request: Request, person: Person) -> Response:
        """My own."""
        return answer({"items": await self._room().people.tokens(person.name)})

    async def add_token(self, request: Request, person: Person) -> Response:
        """One more of my own, with all my rights; shown this once. 201."""
        body: NewToken = await read_json(request, NewToken)
        who = person.at(address_of(request))
        token = await self._room().people.add_token(person.name, body.title, who, days=body.days)
        return answer({"token": token}, status=201)

    async def drop_token(self, request: Request, person: Person) -> Response:
        """One of my own; 204."""
        await self._room().people.drop_token(person.name, request.path_params["id"], person.at(address_of(request)))
        return Response(status_code=204)

    async def users(self, request: Request, person: Person) -> Response:
        """All accounts; that they were read is recorded."""
        await self._room().trail.record(person.at(address_of(request)), "user.list", "users")
        return answer({"items": await self._room().people.users()})

    async def add_user(self, request: Request, person: Person) -> Response:
        """One more; 201."""
        new: NewUser = await read_json(request, NewUser)
        if not await self._room().people.add(new, person.at(address_of(request))):
            raise RefusedError("There is a user of this name already.", status=409)
        return answer({"name": new.name, "role": new.role}, status=201)

    async def change_user(self, request: Request, person: Person) -> Response:
        """Another role or address, or no entry any more. Nobody does this to themselves."""
        body: Change = await read_json(request, Change)
        name = request.path_params["name"]
        if name == person.name:
            raise RefusedError("Ask another admin to change your account.", status=409)
        who = person.at(address_of(request))
        await self._room().people.change(name, who, role=body.role, address=body.address, disabled=body.disabled)
        return answer({"name": name, "role": body.role, "disabled": body.disabled})

    async def set_password(self, request: Request, person: Person) -> Response:
        """A new one for somebody who lost theirs; sessions and tokens end. One's own wants the old one. 204."""
        body: Password = await read_json(request, Password)
        name = request.path_params["name"]
        if name == person.name:
            raise RefusedError("Your own password is changed with the old one: `POST /api/me/password`.", status=409)
        await self._room().people.set_password(name, body.password, person.at(address_of(request)))
        return Response(status_code=204)
