"""Pushes that are answered without a task: they say what the others say, and whoever cannot be served so is served as
ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from conveyor import Conveyor
from conveyor.model.clock import SystemClock
from conveyor.model.events import Event, RequestFailed
from conveyor.model.message import Draft
from conveyor.server.endpoint import Call
from conveyor.server.rights import Right
from conveyor.server.watch import Cancellable, Watch
from conveyor.server.wire import Wire
from conveyor.store.promise import Promise
from kit.online import online
from kit.served import ADMIN, a_token

pytestmark = pytest.mark.anyio

PUSH = "/client/v4/accounts/" + "0" * 32 + "/queues/jobs/messages"
BODY = b'{"body": {"order": 7}}'


def push(body: bytes = BODY, *, token: str = ADMIN, path: str = PUSH, lines: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Head and body."""
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *lines]
    if not any(line.lower().startswith("content-length") for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode(), body


class Line:
    """A connection, answer by answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, *pieces: bytes) -> None:
        """Each is read by itself, as far as a loop that is ours can tell."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            for _ in range(20):
                await SystemClock().sleep(0)

    async def hear(self) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)).decode()
        length = re.search(r"content-length: (\d+)", head)
        assert length is not None, head
        return int(head.split()[1]), json.loads(await self._reader.readexactly(int(length[1])))

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, Any]]:
        await self.say(*pieces)
        return await self.hear()

    async def ends(self) -> bool:
        """Whether the server hangs up now."""
        return await asyncio.wait_for(self._reader.read(1), 30) == b""


@contextlib.asynccontextmanager
async def a_line(url: str) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that took a task."""
    seen: list[str] = []
    go_on = Wire._go_on

    async def counted(self: Wire, call: Any, *given: Any) -> None:
        seen.append(call.scope["path"])
        await go_on(self, call, *given)

    monkeypatch.setattr(Wire, "_go_on", counted)
    return seen


@pytest.fixture
async def line(app: Conveyor) -> AsyncIterator[Line]:
    """To a server that knows the queue, and one message in it."""
    async with online(app) as url, a_line(url) as line:
        assert (await line.ask(b"".join(push())))[0] == 200
        yield line


async def backlog(app: Conveyor) -> int:
    return (await app.store.metrics("jobs")).backlog_messages


async def test_a_push_that_comes_whole_takes_no_task(app: Conveyor, tasks: list[str], line: Line) -> None:
    assert tasks == [PUSH], "the first, before the queue was known"
    status, said = await line.ask(b"".join(push()))
    assert status == 200 and said["success"]
    assert said["result"]["metadata"]["metrics"]["backlog_count"] == 2
    assert tasks == [PUSH]
    assert await backlog(app) == 2


async def test_a_body_that_comes_later_is_waited_for(app: Conveyor, tasks: list[str], line: Line) -> None:
    head, body = push()
    assert (await line.ask(head, body[:5], body[5:]))[0] == 200
    assert len(tasks) == 2
    assert (await line.ask(head[:30], head[30:] + body))[0] == 200
    assert len(tasks) == 2, "a head in two pieces is no reason"
    assert await backlog(app) == 3


async def test_pushes_in_one_go_are_answered_in_their_order(app: Conveyor, line: Line) -> None:
    bad = push(b'{"body": 1, "delay_seconds": -1}')
    whole = b"".join(push())
    await line.say(whole + b"".join(bad) + whole + whole)
    assert [(await line.hear())[0] for _ in range(4)] == [200, 400, 200, 200]
    assert await backlog(app) == 4


BAD: dict[str, dict[str, Any]] = {
    "no JSON": {"body": b"{"},
    "nothing": {"body": b""},
    "no body in it": {"body": b"{}"},
    "an unknown field": {"body": b'{"body": 1, "boody": 2}'},
    "a number out of range": {"body": b'{"body": 1e999}'},
    "too deep": {"body": b'{"body": ' + b"[" * 70 + b"]" * 70 + b"}"},
    "no such content type": {"body": b'{"body": "x", "content_type": "xml"}'},
    "no text": {"body": b'{"body": 1, "content_type": "text"}'},
    "too large": {"body": b'{"body": "' + b"x" * 130_000 + b'"}'},
    "compressed": {"lines": ["Content-Encoding: gzip"]},
    "another site": {"lines": ["Origin: https://elsewhere.example"]},
    "an odd key": {"lines": ["Idempotency-Key: " + "x" * 600]},
    "another host": {"lines": ["Host: elsewhere.example"]},
    "no token of ours": {"token": "nobody"},
    "no such queue": {"path": PUSH.replace("jobs", "jabs")},
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_wrong_is_said_in_the_same_words(app: Conveyor, line: Line, name: str) -> None:
    head, body = push(**BAD[name])
    at_once = await line.ask(head + body)
    in_a_task = await line.ask(*((head, body) if body else (head,)))
    assert at_once == in_a_task
    assert 400 <= at_once[0] < 500
    assert await backlog(app) == 1
    assert (await line.ask(b"".join(push())))[0] == 200, "the connection lives on"


async def test_rights_are_the_same(app: Conveyor, tasks: list[str], line: Line) -> None:
    for rights, queues, status in [
        ((Right.SEND,), None, 200),
        ((Right.SEND,), ("jo*",), 200),
        ((Right.SEND,), ("other",), 404),
        ((Right.READ,), None, 403),
        ((Right.CONSUME, Right.MANAGE), None, 403),
    ]:
        head, body = push(token=await a_token(app, *rights, queues=queues))
        first, second = await line.ask(head + body), await line.ask(head + body)
        third = await line.ask(head, body)
        assert first[0] == second[0] == third[0] == status, (rights, queues)
        if status != 200:
            assert first == second == third
    assert len(tasks) > 1


async def test_a_queue_that_is_gone_is_said_to_be(app: Conveyor, line: Line) -> None:
    await app.store.delete_queue("jobs")
    status, said = await line.ask(b"".join(push()))
    assert status == 404
    assert said["errors"][0]["code"] == 10_104


async def test_a_key_counts_once(app: Conveyor, line: Line) -> None:
    whole = b"".join(push(lines=["Idempotency-Key: order-7"]))
    for _ in range(3):
        status, said = await line.ask(whole)
        assert status == 200
        assert said["result"]["metadata"]["metrics"]["backlog_count"] == 2
    assert await backlog(app) == 2


async def test_who_wants_no_more_is_hung_up_on(app: Conveyor, tasks: list[str], line: Line) -> None:
    """The head that the server itself must write goes as ASGI."""
    assert (await line.ask(b"".join(push(lines=["Connection: close"]))))[0] == 200
    assert await line.ends()
    assert await backlog(app) == 2
    assert len(tasks) == 1


async def test_who_goes_away_leaves_the_message(app: Conveyor, events: list[Event]) -> None:
    async with online(app) as url:
        async with a_line(url) as line:
            assert (await line.ask(b"".join(push())))[0] == 200
            await line.say(b"".join(push()))
        async with a_line(url) as other:
            assert (await other.ask(b"".join(push())))[0] == 200
        assert await backlog(app) == 3
    assert not [event for event in events if isinstance(event, RequestFailed)]


async def test_a_store_that_does_not_answer_is_not_waited_for(
    app: Conveyor, monkeypatch: pytest.MonkeyPatch, line: Line
) -> None:
    """The watch ends it as it ends tasks; when, is tested with the limits."""
    promised: list[Promise] = []
    watched: list[Any] = []
    add = Watch.add

    def note(self: Watch, call: Call, errand: Cancellable | None = None) -> None:
        add(self, call, errand)
        if errand is not None:
            watched.append(errand)

    def keep(_drafts: Sequence[Draft], promise: Promise) -> bool:
        promised.append(promise)
        return True

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "add", note)
        patched.setattr(app.store, "append_for", keep)
        await line.say(b"".join(push()))
        async with asyncio.timeout(30):
            while not promised:
                await SystemClock().sleep(0.005)
        assert watched == promised, "what is promised is watched, and so ended"
        watched[0].cancel()
        assert (await line.hear())[0] == 408
        assert promised[0].done()
        promised[0].set_result([])  # too late, and no harm
        promised[0].set_exception(RuntimeError("too late"))
    assert (await line.ask(b"".join(push())))[0] == 200


async def test_an_error_of_ours_is_told_to_the_log_and_not_to_the_client(
    app: Conveyor, events: list[Event], monkeypatch: pytest.MonkeyPatch, line: Line
) -> None:
    def fail(_drafts: Sequence[Draft], promise: Promise) -> bool:
        promise.set_exception(RuntimeError("a secret"))
        return True

    monkeypatch.setattr(app.store, "append_for", fail)
    status, said = await line.ask(b"".join(push()))
    assert status == 500 and "secret" not in json.dumps(said)
    assert [event.error for event in events if isinstance(event, RequestFailed)] == ["RuntimeError"]
