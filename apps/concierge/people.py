"""People: their accounts, sessions of browsers and tokens of programs. Of both only hashes are kept."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

import msgspec

from conveyor_apps.tables import Database, Transaction

from . import clock
from .audit import SYSTEM, Trail, Who
from .errors import FieldError, RefusedError
from .jobs import check_email, check_id
from .passwords import Hasher, check_password
from .settings import DeskSettings
from .words import Role

SESSION: Final = "session"
TOKEN: Final = "token"  # noqa: S105  # what a key is, not one
PREFIX: Final = "cge_"
TOKEN_DAYS_MAX: Final = 365
TOUCH_MS: Final = 30_000
"""A session's last use is written down this often at most."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has come in."""

    name: str
    role: Role
    key: str
    """The hash of what was shown."""
    by_cookie: bool

    def at(self, address: str) -> Who:
        """For the trail."""
        return Who(self.name, self.role, address)


class UserView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An account, as admins see it."""

    name: str
    role: Role
    address: str
    disabled: bool
    created_at: str


class TokenView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token, without itself."""

    id: str
    title: str
    created_at: str
    seen_at: str
    ends_at: str | None


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to be made."""

    name: str
    role: Role
    address: str
    password: str

    def check(self) -> None:
        """`FieldError`."""
        check_id("name", self.name)
        check_email("address", self.address)
        check_password(self.password)


class People:
    """All of them."""

    def __init__(self, database: Database, trail: Trail, settings: DeskSettings) -> None:
        self._database = database
        self._trail = trail
        self._settings = settings
        self._hasher = Hasher()

    async def add(self, user: NewUser, who: Who = SYSTEM) -> bool:
        """Whether the name was free. `FieldError`."""
        user.check()
        password = await self._hasher.hash(user.password)

        def work(tx: Transaction) -> bool:
            added = tx.change("add_user", name=user.name, role=user.role, address=user.address, password=password)
            if added:
                self._trail.write(tx, who, "user.create", user.name)
            return bool(added)

        return await self._database.write(work)

    async def change(self, name: str, who: Who, *, role: Role, address: str, disabled: bool) -> None:
        """Whoever is disabled, or has another role now, has to come in again. `RefusedError` with 404."""
        check_email("address", address)

        def work(tx: Transaction) -> None:
            if not tx.change("set_user", name=name, role=role, address=address, disabled=int(disabled)):
                raise RefusedError("There is no such user.", status=404)
            tx.change("drop_keys_of", user=name, kind=None if disabled else SESSION)
            self._trail.write(tx, who, "user.change", name)

        await self._database.write(work)

    async def set_password(self, name: str, password: str, who: Who) -> None:
        """A new one; all sessions and tokens end. `FieldError`, `RefusedError` with 404."""
        check_password(password)
        hashed = await self._hasher.hash(password)

        def work(tx: Transaction) -> None:
            if not tx.change("set_password", name=name, password=hashed):
                raise RefusedError("There is no such user.", status=404)
            tx.change("drop_keys_of", user=name, kind=None)
            self._trail.write(tx, who, "user.password", name)

        await self._database.write(work)

    async def change_password(self, person: Person, old: str, new: str, address: str) -> None:
        """Somebody's own, which nobody else knows then; their sessions and tokens end. `FieldError`, `RefusedError`
        with 403 if the old one is another."""
        rows = await self._database.read(lambda tx: tx.rows("find_user", name=person.name))
        if not await self._hasher.verify(old, rows[0][3] if rows else None):
            await self._trail.record(person.at(address), "user.password", person.name, result="refused")
            raise RefusedError("The old password is another one.", status=403)
        await self.set_password(person.name, new, person.at(address))

    async def users(self) -> list[UserView]:
        """All accounts."""
        rows = await self._database.read(lambda tx: tx.rows("users"))
        return [
            UserView(
                name=name, role=Role(role), address=address, disabled=bool(disabled), created_at=clock.iso(created_at)
            )
            for name, role, address, _, disabled, created_at in rows
        ]

    async def address_of(self, name: str) -> str | None:
        """Where somebody gets e-mail."""
        rows = await self._database.read(lambda tx: tx.rows("find_user", name=name))
        return str(rows[0][2]) if rows and not rows[0][4] else None

    async def log_in(self, name: str, password: str, address: str) -> tuple[str, Role]:
        """A new session: its secret, for the cookie, and the role. `RefusedError` with 401, which does not say whether
        there is such a user."""
        rows = await self._database.read(lambda tx: tx.rows("find_user", name=name))
        hashed = rows[0][3] if rows and not rows[0][4] else None
        if not await self._hasher.verify(password, hashed):
            known = Who(name, rows[0][1], address) if rows else Who("?", "", address)
            await self._trail.record(known, "login", known.name, result="refused")
            raise RefusedError("Name or password is wrong.", status=401)
        role, secret = Role(rows[0][1]), secrets.token_urlsafe(32)
        ends_at = clock.now_ms() + self._settings.session_hours * 3_600_000

        def work(tx: Transaction) -> None:
            tx.change("drop_old_keys")
            tx.change("add_key", hash=digest(secret), kind=SESSION, user=name, title="", ends_at=ends_at)
            self._trail.write(tx, Who(name, role, address), "login", name)

        await self._database.write(work)
        return secret, role

    async def log_out(self, person: Person, address: str) -> None:
        """The session ends, also on the server."""

        def work(tx: Transaction) -> None:
            tx.change("drop_key", hash=bytes.fromhex(person.key))
            self._trail.write(tx, person.at(address), "logout", person.name)

        await self._database.write(work)

    async def add_token(self, name: str, title: str, who: Who, *, days: int) -> str:
        """A program's token, shown once. `FieldError`."""
        if not 1 <= days <= TOKEN_DAYS_MAX:
            raise FieldError("days", f"must be 1 to {TOKEN_DAYS_MAX}")
        if not 1 <= len(title) <= 100 or not title.isprintable():
            raise FieldError("title", "must be one line of 1 to 100 characters")
        secret = PREFIX + secrets.token_urlsafe(32)
        ends_at = clock.now_ms() + days * 86_400_000

        def work(tx: Transaction) -> None:
            tx.change("add_key", hash=digest(secret), kind=TOKEN, user=name, title=title, ends_at=ends_at)
            self._trail.write(tx, who, "token.create", name)

        await self._database.write(work)
        return secret

    async def tokens(self, name: str) -> list[TokenView]:
        """Those of somebody."""
        rows = await self._database.read(lambda tx: tx.rows("keys_of", user=name))
        return [
            TokenView(
                id=id, title=title, created_at=clock.iso(created_at), seen_at=clock.iso(seen_at),
                ends_at=clock.iso(ends_at) if ends_at else None,
            )
            for id, title, created_at, seen_at, ends_at in rows
        ]  # fmt: skip

    async def drop_token(self, name: str, id: str, who: Who) -> None:
        """It is good for nothing from now on. `RefusedError` with 404."""

        def work(tx: Transaction) -> None:
            if not tx.change("drop_token", user=name, id=id):
                raise RefusedError("There is no such token.", status=404)
            self._trail.write(tx, who, "token.revoke", f"{name}/{id}")

        await self._database.write(work)

    async def find(self, secret: str, *, by_cookie: bool) -> Person | None:
        """Whose session (`by_cookie`) or token this is; nobody's, if it has ended or lain idle for too long."""
        sealed, now = digest(secret), clock.now_ms()
        rows = await self._database.read(lambda tx: tx.rows("find_key", hash=sealed))
        if not rows:
            return None
        kind, name, _, seen_at, ends_at, role, _ = rows[0]
        idle_ms = self._settings.idle_minutes * 60_000
        is_idle = kind == SESSION and now - seen_at > idle_ms
        if (kind == SESSION) is not by_cookie or is_idle or (ends_at is not None and ends_at <= now):
            return None
        if now - seen_at > TOUCH_MS:
            await self._database.write(lambda tx: tx.change("touch_key", hash=sealed))
        return Person(name, Role(role), sealed.hex(), by_cookie)


def digest(secret: str) -> bytes:
    """What is kept of a secret of 256 bits: nobody can guess it, so a plain hash will do."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()
