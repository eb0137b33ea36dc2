"""The audit trail: every change is in it, nothing that was sent is, and whatever is done to it shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from conveyor import Conveyor
from conveyor.audit.trail import Audit, Record
from conveyor.model.errors import ConflictError, StoreBusyError
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Caller, Right
from conveyor.testing.clock import ManualClock
from kit.served import a_token, bytes_in, client_of, make_wire

pytestmark = pytest.mark.anyio

ANNA = Caller(token_id="0123456789abcdef", name="anna", address="10.0.0.1")  # noqa: S106 an id
PEPPER = "a pepper of thirty-two characters"


@pytest.fixture(params=[None, PEPPER], ids=["plain", "peppered"])
async def audit(app: Conveyor, request: pytest.FixtureRequest) -> Audit:
    audit = Audit(app.store, pepper=request.param)
    for number in range(1, 6):
        await audit.record(ANNA, "queue.create", f"queue-{number}", result="ok", request_id=str(number))
    return audit


class File:
    """Somebody with a tool for databases."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store.db"

    def do(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        connection = apsw.Connection(str(self._path))
        try:
            return list(connection.execute(statement, values))
        finally:
            connection.close()


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


async def test_a_trail_is_read_from_its_end_and_is_whole(audit: Audit, clock: ManualClock) -> None:
    found = await audit.list(limit=3)
    assert [(each.number, each.target) for each in found] == [(5, "queue-5"), (4, "queue-4"), (3, "queue-3")]
    assert [each.number for each in await audit.list(limit=9, before=3)] == [2, 1]
    assert await audit.list(limit=9, before=1) == []
    newest = found[0]
    assert (newest.actor, newest.name, newest.address, newest.action) == (ANNA.token_id, "anna", "10.0.0.1", "queue.create")
    assert (newest.result, newest.request_id, newest.at) == ("ok", "5", clock.now_ms())
    examined = await audit.verify()
    assert (examined.records, examined.faults, examined.head) == (5, [], f"5:{newest.hash}")
    assert (await audit.verify(expected=examined.head)).faults == []


async def test_an_empty_trail_is_whole(app: Conveyor) -> None:
    examined = await Audit(app.store).verify()
    assert (examined.records, examined.faults, examined.head) == (0, [], "0:")


HARM = {
    "edit": """UPDATE documents SET body = replace(CAST(body AS TEXT), 'queue-3', 'queue-9') WHERE kind = 'audit' AND name LIKE '%3'""",
    "edit the last": """UPDATE documents SET body = replace(CAST(body AS TEXT), 'queue-5', 'queue-9') WHERE kind IN ('audit', 'trail') AND name IN ('audit', '0000000000000005')""",
    "edit its hash": """UPDATE documents SET body = substr(body, 1, length(body) - 3) || '0"}' WHERE kind = 'audit' AND name LIKE '%3'""",
    "no JSON": """UPDATE documents SET body = 'x' WHERE kind = 'audit' AND name LIKE '%3'""",
    "delete": """DELETE FROM documents WHERE kind = 'audit' AND name LIKE '%3'""",
    "delete the first": """DELETE FROM documents WHERE kind = 'audit' AND name LIKE '%1'""",
    "delete and close the gap": """DELETE FROM documents WHERE kind = 'audit' AND name LIKE '%3'; UPDATE documents SET name = '0000000000000003' WHERE kind = 'audit' AND name LIKE '%4'; UPDATE documents SET name = '0000000000000004' WHERE kind = 'audit' AND name LIKE '%5'; UPDATE documents SET version = 4 WHERE kind = 'trail'""",
    "reorder": """UPDATE documents SET name = 'x' WHERE kind = 'audit' AND name LIKE '%2'; UPDATE documents SET name = '0000000000000002' WHERE kind = 'audit' AND name LIKE '%3'; UPDATE documents SET name = '0000000000000003' WHERE kind = 'audit' AND name = 'x'""",
    "truncate": """DELETE FROM documents WHERE kind = 'audit' AND name LIKE '%5'""",
    "truncate all": """DELETE FROM documents WHERE kind = 'audit'""",
    "truncate, and set the head back": """DELETE FROM documents WHERE kind = 'audit' AND name LIKE '%5'; UPDATE documents SET version = 4, body = (SELECT body FROM documents WHERE kind = 'audit' AND name LIKE '%4') WHERE kind = 'trail'""",
    "add": """INSERT INTO documents SELECT kind, '0000000000000006', body, version, created_at, modified_at FROM documents WHERE kind = 'audit' AND name LIKE '%5'; UPDATE documents SET version = 6 WHERE kind = 'trail'""",
    "rename": """UPDATE documents SET name = 'zzz' WHERE kind = 'audit' AND name LIKE '%5'""",
    "drop the head": """DELETE FROM documents WHERE kind = 'trail'""",
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
async def test_whatever_is_done_to_it_shows(audit: Audit, file: File, harm: str) -> None:
    head = (await audit.verify()).head
    file.do(HARM[harm])
    expected = head if harm == "truncate, and set the head back" else None  # that needs a head kept elsewhere
    assert (await audit.verify(expected=expected)).faults


async def test_a_trail_written_anew_shows_by_its_head_kept_elsewhere(audit: Audit, app: Conveyor, file: File) -> None:
    head = (await audit.verify()).head
    file.do("DELETE FROM documents WHERE kind IN ('audit', 'trail')")
    assert (await audit.verify(expected=head)).faults
    for _ in range(6):
        await audit.record(ANNA, "queue.create", "another", result="ok")
    assert (await audit.verify()).faults == []
    assert [fault.number for fault in (await audit.verify(expected=head)).faults] == [5]


async def test_without_the_pepper_nobody_writes_a_record_that_fits(app: Conveyor) -> None:
    await Audit(app.store, pepper=PEPPER).record(ANNA, "queue.create", "a", result="ok")
    await Audit(app.store).record(ANNA, "queue.create", "forged", result="ok")
    await Audit(app.store, pepper=PEPPER[::-1]).record(ANNA, "queue.create", "forged", result="ok")
    faults = (await Audit(app.store, pepper=PEPPER).verify()).faults
    assert {fault.number for fault in faults} >= {2, 3}
    assert "set CONVEYOR_PEPPER" in (await Audit(app.store).verify()).faults[0].problem


async def test_a_pepper_may_come_later(app: Conveyor) -> None:
    for pepper in (None, PEPPER, PEPPER):
        await Audit(app.store, pepper=pepper).record(ANNA, "queue.create", "a", result="ok")
    assert (await Audit(app.store, pepper=PEPPER).verify()).faults == []


async def test_records_that_come_at_once_make_one_chain(app: Conveyor) -> None:
    audit = Audit(app.store)
    made = await asyncio.gather(*(audit.record(ANNA, "x", str(n), result="ok") for n in range(600)))
    assert sorted(each.number for each in made) == list(range(1, 601))
    examined = await audit.verify()
    assert (examined.records, examined.faults) == (600, [])


# What the wire records


async def make(call: Call) -> Answer:
    call.target = "the-queue"
    return Answer.json({"secret": "canary-payload"})


async def refuse(_call: Call) -> Answer:
    raise ConflictError("there is one already")


async def burst(_call: Call) -> Answer:
    raise ValueError("canary-payload")


ENDPOINTS = [
    Endpoint(method="POST", path="/queues", right=Right.MANAGE, handle=make, action="queue.create"),
    Endpoint(method="DELETE", path="/queues/{queue}", right=Right.MANAGE, handle=refuse, action="queue.delete"),
    Endpoint(method="PUT", path="/queues/{queue}", right=Right.MANAGE, handle=burst, action="queue.update"),
    Endpoint(method="GET", path="/queues", right=Right.READ, handle=make),
]


async def test_every_change_is_recorded_with_what_came_of_it(app: Conveyor, tmp_path: Path) -> None:
    manager, reader = await a_token(app, Right.MANAGE), await a_token(app, Right.READ)
    async with client_of(make_wire(app, ENDPOINTS), "10.1.2.3") as client:
        asked = [
            await client.ask("POST", "/x/queues", manager, json={"name": "canary-payload"}),
            await client.ask("DELETE", "/x/queues/a%2Fb", manager),
            await client.ask("PUT", "/x/queues/c", manager, json="canary-payload"),
            await client.ask("PUT", "/x/queues/d", manager, content=b"{", headers={"content-encoding": "gzip"}),
            await client.ask("DELETE", "/x/queues/e", reader),
            await client.ask("GET", "/x/queues", reader),
            await client.ask("DELETE", "/x/queues/f", None),
        ]
    assert [each.status_code for each in asked] == [200, 409, 500, 415, 403, 200, 401]
    records = [each for each in await Audit(app.store).list(limit=20) if each.address == "10.1.2.3"][::-1]
    assert [(each.action, each.target, each.result) for each in records] == [
        ("queue.create", "the-queue", "ok"),
        ("queue.delete", "a/b", "conflict"),
        ("queue.update", "c", "internal"),
        ("queue.update", "d", "invalid_request"),
        ("queue.delete", "e", "forbidden"),
    ]
    assert [each.request_id for each in records] == [each.headers["x-request-id"] for each in asked[:5]]
    assert {each.actor for each in records[:4]} == {manager[4:20]} and records[4].actor == reader[4:20]
    files = bytes_in(tmp_path)
    assert b"queue.create" in files and b"canary-payload" not in files


async def test_what_cannot_be_recorded_is_not_said_to_be_done(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object) -> Record:
        raise StoreBusyError("here")

    monkeypatch.setattr(app.store, "append_record", busy)
    async with client_of(make_wire(app, ENDPOINTS)) as client:
        answer = await client.ask("POST", "/x/queues", json={})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_busy")
        assert (await client.ask("DELETE", "/x/queues/a")).status_code == 503
        assert (await client.ask("GET", "/x/queues")).status_code == 200
