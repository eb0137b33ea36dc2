"""A store, or its keeper, by its URL; the library behind it is imported only then."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from conveyor.model.clock import Clock, SystemClock
from conveyor.model.errors import InvalidSettingError, StoreUnsupportedError
from conveyor.model.events import Emit
from conveyor.store.keeping import Keeper
from conveyor.store.protocol import Store

DEFAULT_URL: Final = "sqlite:///conveyor.db"
_HINT: Final = (
    "as in `sqlite:///conveyor.db`, `sqlite:////var/lib/app/conveyor.db`, `postgresql://user@host/database` or `memory://`"
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
        case _:
            raise InvalidSettingError("CONVEYOR_URL", _shown(url), "no store is known by this scheme", hint=_HINT)


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
            raise InvalidSettingError(
                "CONVEYOR_URL",
                _shown(url),
                "is not looked after by these verbs yet",
                hint="use `pg_dump` and PostgreSQL's own tools",
            )
        case _:
            raise InvalidSettingError("CONVEYOR_URL", _shown(url), "no store is known by this scheme", hint=_HINT)


def _postgres_store(url: str, clock: Clock | None, emit: Emit | None) -> Store:
    try:
        from conveyor.store.postgres import PostgresStore
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreUnsupportedError("asyncpg is not installed", hint="pip install 'conveyor[postgres]'") from error
    return PostgresStore(url, clock=clock, emit=emit)


def _file_path(url: str, host: str, path: str) -> str:
    if host or not path.strip("/"):
        raise InvalidSettingError("CONVEYOR_URL", url, "names no file", hint=_HINT)
    return unquote(path[1:])


def _shown(url: str) -> str:
    """Without its credentials."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rsplit('@', 1)[-1]}" if found else url
