"""Payloads of encrypted queues, on each store that keeps anything: a dump shows none of them, keys are rotated and wiped,
and what does not open is a dead letter at once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from conveyor import Conveyor, JobContext, JobState, Message, Retry
from conveyor.loader import load_app
from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import Peeked
from conveyor.model.verdict import Action, Settlement
from conveyor.queue.sealing import Sealer, is_sealed
from conveyor.rotation import rotate
from conveyor.secrets import Keys, put_secret
from conveyor.store.records import ClaimRequest
from conveyor.testing.factories import an_owner
from conveyor.testing.harness import Harness
from conveyor.webhooks.endpoints import KIND, id_of
from kit.postgres import the_server

pytestmark = pytest.mark.anyio

NAME = "Wilhelmina Plantagenet"
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
VARIABLE = "CONVEYOR_SECRETS_KEY"
Dump = Callable[[], Awaitable[bytes]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, OLD)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with the_server().emptied() if request.param == "postgres" else contextlib.nullcontext(f"sqlite:///{tmp_path}/clinic.db") as url:
        yield url


@pytest.fixture
def dump(url: str, tmp_path: Path) -> Dump:
    """Every byte that the store keeps."""

    async def of_files() -> bytes:
        return bytes_below(tmp_path)

    async def of_tables() -> bytes:
        plain, _, schema = url.partition("?schema=")
        connection = await asyncpg.connect(plain)
        try:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
            values = [
                value
                for table in tables
                for row in await connection.fetch(f'SELECT * FROM "{schema}"."{table[0]}"')  # names of ours
                for value in row.values()
            ]
        finally:
            await connection.close()
        return b"\n".join(each if isinstance(each, bytes) else str(each).encode() for each in values)

    return of_files if url.startswith("sqlite") else of_tables


def bytes_below(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


class Clinic(Conveyor):
    """An app with a consumer and jobs of every kind of end."""

    def __init__(self, url: str, encrypted: tuple[str, ...] = ("mail", "clinic-*")) -> None:
        super().__init__("clinic", url=url, encrypted=encrypted, wrangler=None)
        self.got: list[Any] = []
        self.dead: list[Any] = []

        @self.consumer("mail", max_batch_timeout=0, max_retries=0)
        async def mail(message: Message[Any]) -> None:
            self.got.append(message.body)
            if message.body == {"fails": NAME}:
                raise RuntimeError(f"{message.body} was refused")

        @self.consumer("mail-dlq", max_batch_timeout=0, dead_letter_queue=None)
        async def mourn(message: Message[Any]) -> None:
            self.dead.append(message.body)

        @self.job(max_retries=1, backoff="1ms")
        async def treat(patient: dict[str, str], context: JobContext) -> dict[str, str]:
            greeting = await context.step("greet", lambda: f"Dear {patient['name']}")
            answer = await context.wait_for_event("answer", timeout="1m")
            if patient.get("fails"):
                raise ValueError(f"{greeting} said {answer}")
            return {"letter": greeting, "answer": answer}

        self.treat = treat


@pytest.fixture
async def clinic(url: str) -> AsyncIterator[Clinic]:
    async with Clinic(url) as app:
        yield app


async def work(app: Conveyor, until: Callable[[], Awaitable[bool]], *queues: str) -> None:
    """Run a worker until this is so."""
    worker = asyncio.create_task(app.work(queues=queues or None))
    try:
        async with asyncio.timeout(60):
            while not await until():
                await anyio.sleep(0.01)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def peek(app: Conveyor, queue: str) -> list[Peeked]:
    return await app.store.peek(queue, limit=100)


async def test_a_dump_shows_none_of_it(clinic: Clinic, dump: Dump) -> None:
    bodies: list[Any] = [{"name": NAME}, [NAME, 1.5, None]]
    for body in bodies:
        await clinic.queue("mail").send(body)
    await clinic.queue("mail").send(NAME, content_type="text", delay="1h")
    await clinic.queue("mail").send_batch([NAME.encode(), {"fails": NAME}])
    first, second = await clinic.treat.enqueue_many([{"name": NAME}, {"name": NAME, "fails": "yes"}])
    for job in (first, second):
        await job.send_event("answer", f"I am {NAME}")
    assert NAME.encode() not in await dump()

    async def is_over() -> bool:
        states = [await first.state(), await second.state()]
        return len(clinic.got) == 4 and states == ["succeeded", "dead"]

    await work(clinic, is_over, "mail", "clinic-jobs")
    assert clinic.got == [*bodies, NAME.encode(), {"fails": NAME}]
    assert await first.result() == {"letter": f"Dear {NAME}", "answer": f"I am {NAME}"}
    [letter] = await peek(clinic, "mail-dlq")
    assert letter.dead is not None
    assert letter.dead.last_error is not None
    assert letter.dead.last_error.startswith("RuntimeError, test_encryption.py:")
    error = (await second.info()).error
    assert error is not None
    assert error.startswith("ValueError, test_encryption.py:")
    left = await dump()
    assert b"sealed_with" in left
    assert NAME.encode() not in left
    assert NAME.encode().hex().encode() not in left


async def test_what_is_run_at_once_is_sealed_too(url: str, dump: Dump) -> None:
    app, got = Conveyor("clinic", url=url, encrypted=["mail"], wrangler=None), asyncio.Queue[str]()

    @app.consumer("mail", dispatch="immediate")
    async def mail(message: Message[str]) -> None:
        assert NAME.encode() not in await dump()
        await got.put(message.body)

    async with app:
        worker = asyncio.create_task(app.work())
        await app.queue("mail").send(NAME)
        assert await asyncio.wait_for(got.get(), 60) == NAME
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_without_it_a_dump_shows_all(url: str, dump: Dump) -> None:
    """That the test above can fail."""
    async with Clinic(url, encrypted=()) as app:
        await app.queue("mail").send({"name": NAME})
        assert NAME.encode() in await dump()


async def test_a_dead_letter_opens_where_it_lies_and_where_it_came_from(clinic: Clinic) -> None:
    await clinic.queue("mail").send({"fails": NAME})
    await work(clinic, lambda: _soon(bool(clinic.got)), "mail")
    await work(clinic, lambda: _soon(bool(clinic.dead)), "mail-dlq")
    assert clinic.dead == [{"fails": NAME}]
    job = await clinic.treat.enqueue({"name": "somebody", "fails": "yes"})
    await job.send_event("answer", "yes")
    await work(clinic, lambda: _is(job.state(), JobState.DEAD), "clinic-jobs")
    await job.retry({"name": NAME})
    [message] = await peek(clinic, "clinic-jobs")
    assert is_sealed(message.body)
    await work(clinic, lambda: _is(job.state(), JobState.SUCCEEDED), "clinic-jobs")


async def test_rotation_seals_all_anew_and_the_old_key_may_go(
    url: str, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Clinic(url) as app:
        for number in range(120):
            await app.queue("mail").send({"number": number}, delay="1h" if number % 2 else None)
        await app.queue("mail").send({"fails": NAME}, priority="high")
        await work(app, lambda: _soon(any("fails" in each for each in app.got)), "mail")
        await put_secret(app.store, Keys(app.bindings.folder), "clinic", "TOKEN", "t")
        handled = len(app.got) - 1
        assert len(await peek(app, "mail-dlq")) == 1
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    async with Clinic(url) as app:
        keys = Keys(app.bindings.folder)
        sealer = Sealer((), keys.for_payloads)
        counted = await rotate(app.store, keys, sealer, is_rehearsal=True)
        done = await rotate(app.store, keys, sealer)
        again = await rotate(app.store, keys, sealer)
        assert (counted.messages, done.messages, again.messages) == (121 - handled, 121 - handled, 0)
        assert (done.secrets, again.secrets, done.busy, done.locked) == (1, 0, 0, 0)
    old, new = keys.ids[1], keys.ids[0]
    left = await dump()
    assert f'"sealed_with":"{new}"'.encode() in left
    if url.startswith("postgres"):  # SQLite's file keeps what was overwritten until its pages are used again
        assert f'"sealed_with":"{old}"'.encode() not in left
    monkeypatch.setenv(VARIABLE, NEW)
    async with Clinic(url) as app:
        await app.secrets.refresh()
        assert app.secrets["TOKEN"] == "t"  # noqa: S105  # the test's own
        await work(app, lambda: _soon(len(app.got) >= 60 - handled and bool(app.dead)), "mail", "mail-dlq")
        assert app.dead == [{"fails": NAME}]


async def test_what_waits_in_groups_is_sealed_anew_too(url: str, dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_app() -> tuple[Conveyor, Any, Any]:
        app = Conveyor("clinic", url=url, encrypted=["clinic-*"], wrangler=None)

        @app.job()
        async def find(name: str) -> dict[str, str]:
            return {"found": name}

        @app.job()
        async def greet(name: str) -> str:
            return f"Dear {name}"

        return app, find, greet

    app, find, greet = make_app()
    async with app:
        group = app.group("visits")
        group.add(greet, NAME, after=group.add(find, NAME))
        await group.start()
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    app, *_ = make_app()
    async with app:
        keys = Keys(app.bindings.folder)
        sealer = Sealer((), keys.for_payloads)
        counted = await rotate(app.store, keys, sealer, is_rehearsal=True)
        done = await rotate(app.store, keys, sealer)
        again = await rotate(app.store, keys, sealer, is_rehearsal=True)
        assert (counted.messages, done.messages, again.messages) == (2, 2, 0)
        if url.startswith("postgres"):
            assert f'"sealed_with":"{keys.ids[1]}"'.encode() not in await dump()
    monkeypatch.setenv(VARIABLE, NEW)
    app, *_ = make_app()
    async with app:
        started = await app.groups.get(group.id)

        async def is_over() -> bool:
            return (await started.info()).succeeded == 2

        await work(app, is_over)


async def test_an_endpoint_that_changes_while_keys_are_rotated_is_sealed_anew(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery notes that it fails, between the read and the write; another is removed."""
    failing, gone = "https://a.example.com/hook", "https://b.example.com/hook"
    async with Clinic(url) as app:
        for each in (failing, gone):
            await app.webhooks.add(each)
        secret = await app.webhooks.secret(failing)
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    async with Clinic(url) as app:
        read = app.store.list_documents

        async def list_early(kind: str, **options: Any) -> Any:
            found = await read(kind, **options)
            if kind == KIND and found:
                endpoints = (await app.webhooks.open())[1]
                await endpoints.disable(id_of("clinic", failing), "it fails")
                await app.webhooks.remove(gone)
            return found

        keys = Keys(app.bindings.folder)
        with monkeypatch.context() as patch:
            patch.setattr(app.store, "list_documents", list_early)
            done = await rotate(app.store, keys, Sealer((), keys.for_payloads))
        assert (done.webhooks, done.busy, done.locked) == (1, 0, 0)
    monkeypatch.setenv(VARIABLE, NEW)
    async with Clinic(url) as app:
        assert await app.webhooks.secret(failing) == secret


async def test_what_moves_while_keys_are_rotated_is_met(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a queue that is still to be read to one that was."""
    async with Clinic(url) as app:
        await app.queue("mail").send({"fails": NAME})
        await work(app, lambda: _has(app, "mail-dlq"), "mail")
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    async with Clinic(url) as app:
        keys = Keys(app.bindings.folder)
        read = app.store.peek

        async def peek_late(queue: str, **options: Any) -> list[Peeked]:
            if queue == "mail-dlq":
                await app.store.redrive(queue)
            return await read(queue, **options)

        with monkeypatch.context() as patch:
            patch.setattr(app.store, "peek", peek_late)
            done = await rotate(app.store, keys, Sealer((), keys.for_payloads))
        again = await rotate(app.store, keys, Sealer((), keys.for_payloads), is_rehearsal=True)
        assert (done.messages, done.busy, again.messages) == (1, 0, 0)


async def test_what_somebody_works_on_is_left_to_the_next_rotation(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Clinic(url) as app:
        await app.queue("mail").send({"name": NAME})
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    async with Clinic(url) as app:
        keys = Keys(app.bindings.folder)
        sealer = Sealer((), keys.for_payloads)
        owner = await app.store.register_owner(an_owner())
        request = ClaimRequest(queue="mail", owner=owner, limit=1, calls=1, batch_size=1, batch_timeout_ms=0)
        [lease] = (await app.store.claim(request)).leases
        done = await rotate(app.store, keys, sealer)
        assert (done.messages, done.busy) == (0, 1)
        await app.store.settle(owner, [Settlement(lease.seq, lease.claim, Action.RELEASE)])
        again = await rotate(app.store, keys, sealer)
        assert (again.messages, again.busy) == (1, 0)


async def test_what_does_not_open_is_a_dead_letter_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Clinic(url) as app:
        await app.queue("mail").send({"name": NAME})
    monkeypatch.setenv(VARIABLE, NEW)
    async with Clinic(url) as app:
        await work(app, lambda: _has(app, "mail-dlq"), "mail")
        [letter] = await peek(app, "mail-dlq")
        assert letter.dead is not None
        assert letter.dead.reason == "sealed"
        assert "it is not here (add it to CONVEYOR_SECRETS_KEY" in (letter.dead.last_error or "")
        assert app.got == []
    monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
    async with Clinic(url) as app:
        assert await app.store.redrive("mail-dlq") == 1
        await work(app, lambda: _soon(app.got == [{"name": NAME}]), "mail")


async def test_a_letter_in_anothers_place_does_not_open(clinic: Clinic) -> None:
    sent = [await clinic.queue("mail").send({"number": number}) for number in (1, 2)]
    first, second = await peek(clinic, "mail")
    await clinic.store.edit_message(first, body=second.body, content_type=first.content_type, headers=None)
    await work(clinic, lambda: _has(clinic, "mail-dlq"), "mail")
    assert [each.id.hex() for each in await peek(clinic, "mail-dlq")] == [sent[0].id]
    await work(clinic, lambda: _soon(bool(clinic.got)), "mail")
    assert clinic.got == [{"number": 2}]


async def test_what_was_sent_before_still_arrives(url: str) -> None:
    async with Clinic(url, encrypted=()) as app:
        await app.queue("mail").send({"name": NAME})
    async with Clinic(url) as app:
        await app.queue("mail").send({"sealed": "too"})
    async with Clinic(url, encrypted=()) as app:  # and after it is switched off again
        await work(app, lambda: _soon(len(app.got) == 2), "mail")
        assert app.got == [{"name": NAME}, {"sealed": "too"}]


async def test_a_key_is_made_only_where_no_other_machine_needs_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    if url.startswith("postgres"):
        with pytest.raises(InvalidSettingError, match="conveyor keys make"):
            async with Clinic(url):
                pass
        return
    async with Clinic(url) as app:
        await app.queue("mail").send({"name": NAME})
    file = tmp_path / "clinic.db-files" / "secrets.key"
    assert file.stat().st_mode & 0o077 == 0


async def test_a_chain_hands_results_on_sealed(url: str, dump: Dump) -> None:
    app = Conveyor("clinic", url=url, encrypted=["clinic-*"], wrangler=None)

    @app.job()
    async def find(name: str) -> dict[str, str]:
        return {"found": name}

    @app.job()
    async def greet(found: dict[str, str]) -> str:
        return f"Dear {found['found']}"

    async with app:
        last = await app.chain(find.bind(NAME), greet)
        await work(app, lambda: _is(last.state(), JobState.SUCCEEDED))
        assert await last.result() == f"Dear {NAME}"
        assert NAME.encode() not in await dump()


async def test_dedupe_and_limits_hold(clinic: Clinic) -> None:
    first = await clinic.queue("mail").send({"name": NAME}, dedupe="x", delay="1h")
    second = await clinic.queue("mail").send({"name": NAME}, dedupe="x", delay="1h")
    assert (second.id, second.deduped) == (first.id, True)
    await clinic.queue("mail").send("x" * 95_000)
    with pytest.raises(Exception, match="128,000"):
        await clinic.queue("mail").send("x" * 97_000)


APART = """
from conveyor import Conveyor

app = Conveyor("clinic", encrypted=["clinic-*"])


@app.job(run_in="process")
def shout(name: str) -> str:
    if name == "nobody":
        raise ValueError(f"{name} is not here")
    return name.upper()
"""


async def test_children_open_and_seal(url: str, dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apart.py").write_text(APART)
    monkeypatch.setenv("CONVEYOR_URL", url)
    app = load_app("apart.py:app")
    shout: Any = sys.modules.pop("apart").shout
    async with app:
        loud, absent = await shout.enqueue(NAME), await shout.options(max_retries=0).enqueue("nobody")
        await work(app, lambda: _is(loud.state(), JobState.SUCCEEDED))
        await work(app, lambda: _is(absent.state(), JobState.DEAD))
        assert await loud.result() == NAME.upper()
        assert (await absent.info()).error == "ValueError, apart.py:10 in shout"
        left = await dump()
        assert NAME.upper().encode() not in left


async def test_a_kit_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    app = Conveyor("clinic", url="memory:", encrypted=["mail"], wrangler=None)

    @app.consumer("mail")
    async def mail(message: Message[str]) -> None:
        if message.body != NAME:
            raise Retry

    kit: Harness
    async with app.testing() as kit:
        await app.queue("mail").send(NAME)
        [message] = await app.store.peek("mail", limit=1)
        assert is_sealed(message.body)
        kit.assert_enqueued("mail", body=NAME, count=1)
        await kit.drain()
        assert (await app.store.metrics("mail")).backlog_messages == 0


async def _soon(found: bool) -> bool:
    return found


async def _is(state: Awaitable[JobState], wanted: JobState) -> bool:
    return await state is wanted


async def _has(app: Conveyor, queue: str) -> bool:
    return bool(await peek(app, queue))
