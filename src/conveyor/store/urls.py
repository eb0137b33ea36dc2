"""A store, or its keeper, by its URL; the library behind it is imported only then."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from conveyor.model.clock import Clock, SystemClock
from conveyor.model.errors import InvalidSettingError, StoreUnsupportedError
from conveyor.model.events import Emit
from conveyor.store.keeping import Keeper
from conveyor.store.protocol import Store
from conveyor.store.routing import Routing

DEFAULT_URL: Final = "sqlite:///conveyor.db"
_HINT: Final = (
    "as in `sqlite:///conveyor.db`, `sqlite:////var/lib/app/conveyor.db`, `postgresql://user@host/database`,"
    " `cloudflare://ACCOUNT/QUEUE` or `memory://`"
)


def make_store(url: str, *, clock: Clock | None = None, emit: Emit | None = None) -> Store:
    """The store behind `url`, not yet open; `emit` hears when its server goes and comes. `InvalidSettingError`."""
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from conveyor.store.sqlite import SQLiteStore

            return SQLiteStore(_file_path(url, parts.netloc, parts.path), clock=clock)
        case "postgresql" | "postgres":
            return _postgres_store(url, clock, emit)
        case "memory":
            from conveyor.store.memory import MemoryStore

            return MemoryStore(clock or SystemClock())
        case "cloudflare":
            remote: Store = importlib.import_module("conveyor.remote").RemoteStore(url, clock=clock)  # a room above
            return remote
        case _:
            raise InvalidSettingError("CONVEYOR_URL", shown_url(url), "no store is known by this scheme", hint=_HINT)


def make_stores(routing: Routing, *, clock: Clock | None = None, emit: Emit | None = None) -> Store:
    """The one store, or one made of all that the table names. `InvalidSettingError`."""
    if not routing.stores:
        return make_store(routing.url, clock=clock, emit=emit)
    from conveyor.store.routed import RoutedStore

    return RoutedStore(routing, {name: _make_named(name, url, clock, emit) for name, url in routing.urls.items()})


def _make_named(name: str, url: str, clock: Clock | None, emit: Emit | None) -> Store:
    try:
        return make_store(url, clock=clock, emit=emit)
    except InvalidSettingError as error:
        error.hint = f"store `{name}`: {error.hint}"
        raise


def make_keeper(url: str) -> Keeper:
    """Who looks after the store behind `url`. `InvalidSettingError`."""
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from conveyor.store.sqlite.keeper import SQLiteKeeper

            return SQLiteKeeper(_file_path(url, parts.netloc, parts.path))
        case "memory":
            raise InvalidSettingError("CONVEYOR_URL", url, "lives in one process only", hint="use `sqlite:///conveyor.db`")
        case "postgresql" | "postgres":
            return _postgres_keeper(url)
        case "cloudflare":
            problem = "is kept where it lives"
            raise InvalidSettingError("CONVEYOR_URL", shown_url(url), problem, hint="give this command there")
        case _:
            raise InvalidSettingError("CONVEYOR_URL", shown_url(url), "no store is known by this scheme", hint=_HINT)


def _postgres_store(url: str, clock: Clock | None, emit: Emit | None) -> Store:
    with _asyncpg():
        from conveyor.store.postgres import PostgresStore
    return PostgresStore(url, clock=clock, emit=emit)


def _postgres_keeper(url: str) -> Keeper:
    with _asyncpg():
        from conveyor.store.postgres.keeper import PostgresKeeper
    from conveyor.store.sqlite.backups import SQLiteBackups

    return PostgresKeeper(url, SQLiteBackups())


@contextlib.contextmanager
def _asyncpg() -> Iterator[None]:
    """`StoreUnsupportedError` where the library is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreUnsupportedError("asyncpg is not installed", hint="pip install 'conveyor[postgres]'") from error


def _file_path(url: str, host: str, path: str) -> str:
    if host or not path.strip("/"):
        raise InvalidSettingError("CONVEYOR_URL", url, "names no file", hint=_HINT)
    return unquote(path[1:])


def shown_url(url: str) -> str:
    """Without its credentials."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rsplit('@', 1)[-1]}" if found else url
