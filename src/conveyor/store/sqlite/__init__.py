"""The default store: one SQLite file in WAL mode, written by one thread per process that commits what has gathered."""

from conveyor.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
