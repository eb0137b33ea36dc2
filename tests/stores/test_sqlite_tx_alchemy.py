"""`tx=` takes an SQLAlchemy 2 session or connection that stands on apsw. SQLAlchemy has no dialect for apsw, but its own
for SQLite takes a DB-API layer over it (docs/how-to/transactional-send.md)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import apsw
import pytest

from conveyor import Conveyor
from conveyor.model.errors import InvalidTransactionError
from kit.borrowed import bodies

pytestmark = pytest.mark.anyio


def an_engine(folder: Path) -> tuple[Any, Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy", minversion="2.0")
    from kit import apsw_dbapi

    url = f"sqlite+pysqlite:///{folder}/store.db"
    engine = sqlalchemy.create_engine(url, module=apsw_dbapi)
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine, importlib.import_module("sqlalchemy.orm")


async def test_an_sqlalchemy_session_over_apsw(app: Conveyor, user: apsw.Connection, tmp_path: Path) -> None:
    engine, orm = an_engine(tmp_path)
    text = importlib.import_module("sqlalchemy").text
    with orm.Session(engine) as session:
        session.execute(text("INSERT INTO orders VALUES (:n)"), {"n": 1})
        await app.queue("jobs").send(1, tx=session)
        session.commit()
        session.execute(text("INSERT INTO orders VALUES (:n)"), {"n": 2})
        await app.queue("jobs").send(2, tx=session)
        session.rollback()
    with engine.begin() as connection:
        await app.queue("jobs").send(3, tx=connection)
    assert await bodies(app) == [b"1", b"3"]
    assert [n for (n,) in user.execute("SELECT n FROM orders")] == [1]
    engine.dispose()


async def test_an_sqlalchemy_connection_over_the_stdlib_is_refused(app: Conveyor, tmp_path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", minversion="2.0")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/other.db")
    with engine.begin() as connection, pytest.raises(InvalidTransactionError, match="second SQLite library"):
        await app.queue("jobs").send(1, tx=connection)
    engine.dispose()
