"""What PostgreSQL really does for the hot statements: the plans it ran, those inside its functions too, as it logs them.

Nothing is analyzed, so that a plan that needs statistics would show. What is counted are pages, which no busy machine
changes: a claim among many messages must touch no more of them than a claim among few.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.rate import Rate
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.postgres import PostgresStore
from conveyor.store.postgres.opening import Address, dial, read_address
from conveyor.store.postgres.transaction import Connection
from conveyor.store.records import ClaimRequest, OwnerInfo
from conveyor.testing.clock import NOON_MS, ManualClock
from kit.postgres import the_server

FEW, MANY, VERY_MANY = 1_000, 10_000, 1_000_000
KEYS_FEW, KEYS_MANY = 200, 1_600
TAKEN = 100
PAST = NOON_MS - 60_000
FAR = Rate(1_000_000, 1_000)
EXPLAIN = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration TO 0;
SET auto_explain.log_analyze TO on;
SET auto_explain.log_buffers TO on;
SET auto_explain.log_timing TO off;
SET auto_explain.log_nested_statements TO on;
SET auto_explain.log_format TO json;
SET client_min_messages TO log
"""
FILL = """
WITH put AS (
  INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key)
  SELECT nextval('message_seq'), $1, uuid_send(gen_random_uuid()), '"x"', 0, $2, $2, $2, 5, 'k' || n % $4
  FROM generate_series(1, $3) n
  RETURNING seq, lane, ready_at
)
INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
SELECT lane, 0, 5, ready_at, seq, 0, 0, 0 FROM put
"""


Plan = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What the server did for the stores of this test since it was last cleared."""
    kept: list[Plan] = []

    def keep(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        _, found, text = str(message).partition("plan:")
        if found:
            kept.append(json.loads(text)["Plan"])

    async def dial_and_watch(place: str, address: Address) -> Connection:
        connection = await dial(place, address)
        connection.add_log_listener(keep)
        await connection.execute(EXPLAIN)
        return connection

    monkeypatch.setattr("conveyor.store.postgres.door.dial", dial_and_watch)
    return kept


def steps(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in plan.get("Plans", []):
        yield from steps(part)


def pages(plans: list[Plan]) -> int:
    """Pages looked at, of tables and indexes; a function's plan counts those of the statements in it once more."""
    return sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)


def check_walks(plans: list[Plan], table: str) -> None:
    """The statements touched `table`, by its indexes or by row addresses only, and joined without hashing or sorting."""
    found = [step for plan in plans for step in steps(plan)]
    assert any(step.get("Relation Name") == table for step in found), f"no plan of `{table}` was logged"
    for step in found:
        assert step["Node Type"] not in {"Hash Join", "Merge Join"}, step
        assert step["Node Type"] != "Seq Scan" or step["Relation Name"] in {"store", "queues"}, step


async def fill(url: str, messages: int, *, keys: int | None = None) -> None:
    """As many messages ready since long, as one statement; statistics are left as they are."""
    address = read_address(url)
    connection = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema})
    try:
        lane = await connection.fetchval("SELECT lane FROM queues WHERE name = 'jobs'")
        await connection.execute(FILL, lane, PAST, messages, keys)
    finally:
        await connection.close()


async def use(store: PostgresStore, plans: list[Plan], **consumer: Any) -> dict[str, list[Plan]]:
    """One send, claim, ack and retry of some messages: the plans of each, when all are warm."""
    await store.put_consumer("jobs", ConsumerSettings(max_retries=3, **consumer))
    owner = await store.register_owner(OwnerInfo(app="test", host=store.host, pid=1, supervisor_pid=1))
    kept: dict[str, list[Plan]] = {}
    for _ in range(8):  # plans are made within the first few calls
        plans.clear()
        await store.append([draft(store) for _ in range(TAKEN)])
        kept["send"] = list(plans)
        plans.clear()
        claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=TAKEN))
        kept["claim"] = list(plans)
        assert len(claimed.leases) == TAKEN
        first, *others = claimed.leases
        plans.clear()
        await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in others])
        kept["ack"] = list(plans)
        plans.clear()
        await store.settle(owner, [Settlement(first.seq, first.claim, Action.RETRY, delay_ms=0)])
        kept["retry"] = list(plans)
    return kept


def draft(store: PostgresStore) -> Draft:
    return Draft(id=IdSource(store.clock).new(), queue="jobs", body=b'"x"')


@pytest.mark.anyio
@pytest.mark.parametrize(
    "many", [MANY, pytest.param(VERY_MANY, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize(
    "consumer",
    [
        {},
        {"ordered": True},
        *(
            pytest.param(each, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])
            for each in ({"max_concurrency": 10_000}, {"rate": FAR}, {"fair": True}, {"fair": True, "key_rate": FAR})
        ),
    ],
    ids=["plain", "ordered", "limited", "rated", "fair", "fair and rated"],
)
async def test_a_claim_among_many_touches_no_more_pages_than_among_few(
    plans: list[Plan], consumer: dict[str, Any], many: int
) -> None:
    touched: dict[int, dict[str, int]] = {}
    for waiting in (FEW, many):
        url = the_server().url(pool="1")
        store = PostgresStore(url, clock=ManualClock())
        await store.open()
        await store.create_queue("jobs", QueueSettings())
        await store.append([draft(store)])
        await fill(url, waiting)
        kept = await use(store, plans, **consumer)
        for name, table in (("send", "ready"), ("claim", "ready"), ("ack", "leased"), ("retry", "leased")):
            if name != "send":
                check_walks(kept[name], table)
        touched[waiting] = {name: pages(found) for name, found in kept.items()}
        await store.close()
    for name, few in touched[FEW].items():
        assert touched[many][name] <= 1.5 * few + 5 * TAKEN, (
            f"{name}: {few} pages among {FEW}, {touched[many][name]} among {many}"
        )


@pytest.mark.anyio
async def test_a_fair_claim_among_many_keys_touches_no_more_pages_than_among_few(plans: list[Plan]) -> None:
    touched: dict[int, dict[str, int]] = {}
    for keys in (KEYS_FEW, KEYS_MANY):
        url = the_server().url(pool="1")
        store = PostgresStore(url, clock=ManualClock())
        await store.open()
        await store.create_queue("jobs", QueueSettings())
        await store.append([draft(store)])
        await fill(url, 2 * KEYS_MANY, keys=keys)
        kept = await use(store, plans, fair=True, key_rate=FAR)
        touched[keys] = {name: pages(kept[name]) for name in ("claim", "ack", "retry")}
        await store.close()
    for name, few in touched[KEYS_FEW].items():
        assert touched[KEYS_MANY][name] <= 1.5 * few + 5 * TAKEN, f"{name}: {few}, then {touched[KEYS_MANY][name]} pages"
