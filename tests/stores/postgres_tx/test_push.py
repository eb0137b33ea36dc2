"""`SELECT conveyor.push(...)`: a send from any language, in the transaction in which it is called."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from conveyor import Conveyor
from conveyor.model.rate import Rate
from conveyor.model.settings import ConsumerSettings
from conveyor.store.postgres.opening import read_address
from conveyor.store.postgres.statements import quoted
from conveyor.store.postgres.transaction import Connection
from kit.borrowed import bodies

pytestmark = pytest.mark.anyio


@pytest.fixture
async def psql(app: Conveyor, dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
def push(url: str) -> str:
    return f"SELECT {quoted(read_address(url).schema)}.push"


async def test_it_is_there_if_and_only_if_the_transaction_commits(app: Conveyor, psql: Connection, push: str) -> None:
    transaction = psql.transaction()
    await transaction.start()
    await psql.execute(f"{push}('jobs', '1')")
    await transaction.rollback()
    message_id = await psql.fetchval(f"""{push}('jobs', '{{"item": "lamp \N{SNOWMAN}"}}')""")
    [found] = await app.store.peek("jobs", limit=10)
    assert (found.id.hex(), found.body) == (message_id, '{"item": "lamp \N{SNOWMAN}"}'.encode())
    assert found.priority == 5
    assert message_id[:4] == (await app.queue("jobs").send(1)).id[:4], "ids are in the order of time"


async def test_it_takes_the_options_of_a_send(app: Conveyor, psql: Connection, push: str) -> None:
    headers = '{"trace": "' + "x" * 200 + '"}'
    await psql.execute(
        f"{push}('jobs', '1', delay => '1 hour', priority => 9, key => 'k', headers => '{headers}', expires_in => '2h')"
    )
    [found] = await app.store.peek("jobs", limit=10)
    assert (found.priority, found.key, found.headers) == (9, "k", headers.encode())
    assert found.ready_at - found.sent_at == 3_600_000


async def test_a_dedupe_key_is_held_against_it_and_by_it(app: Conveyor, psql: Connection, push: str) -> None:
    first = await psql.fetchval(f"{push}('once', '1', dedupe => 'a')")
    assert await psql.fetchval(f"{push}('once', '2', dedupe => 'a')") == first
    assert (await app.queue("once").send(3, dedupe="a")).id == first
    held = await app.queue("once").send(4, dedupe="b")
    assert await psql.fetchval(f"{push}('once', '5', dedupe => 'b')") == held.id
    assert await bodies(app, "once") == [b"1", b"4"]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("('none', '1')", "QL002"),
        (f"""('small', '"{"x" * 100}"')""", "QL003"),
        ("('small', NULL)", "QL003"),
        ("('jobs', '1', priority => 10)", "QL004"),
        ("('jobs', '1', delay => '25 hours')", "QL004"),
        ("('jobs', '1', key => '')", "QL004"),
        ("('jobs', '1', cost => 0)", "QL004"),
        ("('rated', '1', cost => 6)", "QL004"),
        ("('jobs', '1', headers => '[]')", "QL004"),
        ("('small', '1')", "QL005"),
    ],
)
async def test_it_raises_what_a_send_would_refuse(app: Conveyor, psql: Connection, push: str, call: str, code: str) -> None:
    await app.store.declare_consumer("rated", ConsumerSettings(rate=Rate(5, 60_000)))
    if code == "QL005":
        await psql.execute(f"{push}('small', '0')")
    with pytest.raises(asyncpg.PostgresError) as caught:
        await psql.execute(push + call)
    assert caught.value.sqlstate == code
    assert await bodies(app) == []
