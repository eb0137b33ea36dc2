"""Reads the URL and connects."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec

from conveyor.model.errors import InvalidSettingError, StoreUnsupportedError
from conveyor.store.postgres.faults import StandbyError
from conveyor.store.postgres.statements import SQL
from conveyor.store.postgres.transaction import Connection

DEFAULT_SCHEMA: Final = "conveyor"
POOL_DEFAULT: Final = 5
STATEMENTS_DEFAULT: Final = 200
NUMBER_MOST: Final = 1_000
SERVER_OLDEST: Final = 14
PATIENCE_S_DEFAULT: Final = 30
CONNECT_S: Final = 10.0
"""To connect: shared by the servers of a list."""
ANSWER_S: Final = 25.0
"""A statement that takes longer hangs: on a connection that has died in silence, or behind a lock."""
KEEP_ALIVE_S: Final = (5, 3, 3)
"""A machine that says nothing for 5 s is asked every 3 s; after 3 questions it is dead."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says: where the server is, and how to use it."""

    dsn: str
    places: tuple[str, ...]
    """The same, one for each server of a list."""
    schema: str
    pool: int
    statement_cache: int | None
    """None: none behind a pooler, else `STATEMENTS_DEFAULT`."""
    patience_s: float
    """How long a call waits for a server that is away."""
    pooler: bool | None
    """Whether sessions change hands between transactions. None: found out when the store opens."""
    listen: str | None
    """Another way to the same database, around the pooler."""
    where: str
    """For people: without credentials."""


class Seen(msgspec.Struct, frozen=True):
    """What a process learned when it opened a store: its schema is migrated, this is where it is, and which it is."""

    pid: int
    address: Address
    store_id: bytes


def read_address(url: str) -> Address:
    """`InvalidSettingError`. The parameters that are not ours are libpq's."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not 1 <= len(schema.encode()) <= 40 or "\0" in schema:
        hint = "1 to 40 bytes, as in `?schema=conveyor`"
        raise InvalidSettingError("CONVEYOR_URL", schema, "is no schema", hint=hint)
    pool = _number(options.pop("pool", str(POOL_DEFAULT)), least=1)
    cache = options.pop("statement_cache_size", None)
    patience = _number(options.pop("patience", str(PATIENCE_S_DEFAULT)), least=0)
    pooler, listen = options.pop("pooler", None), options.pop("listen", None)
    if pooler not in {None, "true", "false"}:
        raise InvalidSettingError("CONVEYOR_URL", pooler, "is no answer to `pooler`", hint="`true` or `false`")
    options.setdefault("application_name", "conveyor")
    user, at, hosts = parts.netloc.rpartition("@")
    query = urlencode(options)
    return Address(
        dsn=urlunsplit((*parts[:3], query, "")),
        places=tuple(
            urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path, query, "")) for host in hosts.split(",")
        ),
        schema=schema,
        pool=pool,
        statement_cache=None if cache is None else _number(cache, least=0),
        patience_s=patience,
        pooler=None if pooler is None else pooler == "true",
        listen=listen,
        where=f"{parts.scheme}://{hosts}{unquote(parts.path)}",
    )


def _number(text: str, *, least: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= NUMBER_MOST:
        raise InvalidSettingError("CONVEYOR_URL", text, f"must be a whole number from {least} to {NUMBER_MOST:,}")
    return int(text)


async def dial(place: str, address: Address) -> Connection:
    """A connection to one server. Raises what the library raises, `StandbyError`, and `StoreUnsupportedError` for a
    server that is too old."""
    is_direct = address.pooler is False
    cache = address.statement_cache
    connection = await asyncpg.connect(
        place,
        statement_cache_size=(STATEMENTS_DEFAULT if is_direct else 0) if cache is None else cache,
        timeout=CONNECT_S / len(address.places),
        command_timeout=ANSWER_S,
    )
    try:
        version = connection.get_server_version()
        if version.major < SERVER_OLDEST:
            raise StoreUnsupportedError(f"PostgreSQL {version.major} is too old", hint=f"use {SERVER_OLDEST} or newer")
        if await connection.fetchval(SQL["find_standby"]):
            raise StandbyError("it is a standby, which takes no writes")
        if is_direct:
            await connection.execute(SQL["bound_session"])
        _keep_alive(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _keep_alive(connection: Connection) -> None:
    """Let the kernel find out that the other machine is gone."""
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001 there is no other way
    here: socket.socket | None = transport.get_extra_info("socket")
    if here is None or here.family not in {socket.AF_INET, socket.AF_INET6} or not hasattr(socket, "TCP_KEEPIDLE"):
        return
    idle_s, pause_s, questions = KEEP_ALIVE_S
    with contextlib.closing(socket.socket(fileno=os.dup(here.fileno()))) as same:  # uvloop's own takes no options
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause_s)
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, questions)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (idle_s + pause_s * questions))
