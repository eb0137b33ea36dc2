"""The store for many machines: PostgreSQL 14 and newer, through asyncpg, in a schema of its own."""

from conveyor.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
