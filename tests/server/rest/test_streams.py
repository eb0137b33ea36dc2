"""Live events over SSE and WebSocket: by a real server, a real reader, and a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conveyor import Conveyor
from conveyor.model.events import AccessRefused, ScheduleDelayed
from conveyor.queue.notices import origin_of
from conveyor.server.rest.hub import BUFFER_MAX, RING_MAX, Ending
from conveyor.server.rights import Right
from conveyor.server.tokens import Tokens
from conveyor.store.notices import Notice
from conveyor.testing.clock import ManualClock
from kit.online import online
from kit.served import ADMIN, a_token

pytestmark = pytest.mark.anyio
PATIENCE_S = 50.0
LOOPS = 3
"""What sleeps while somebody listens: the look, the heartbeat, the check of tokens."""
T = TypeVar("T")


class Reader:
    """What comes on one stream; `said` has it all."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self.said: list[dict[str, Any]] = []
        self.beats = 0
        self._lines = lines

    async def next(self, name: str | None = None) -> dict[str, Any]:
        """The next event, or the next of this name."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await self._read()
                self.said.append(event)
                if name is None or event["event"] == name:
                    return event

    async def beat(self) -> None:
        """Until the next heartbeat."""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if line == ": heartbeat":
                    self.beats += 1
                    return

    async def _read(self) -> dict[str, Any]:
        event: dict[str, Any] = {"id": None}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if not line and "event" in event:
                return event
            if name in ("id", "event"):
                event[name] = value
            elif name == "data":
                event["data"] = msgspec.json.decode(value)
        raise EOFError


@contextlib.asynccontextmanager
async def listen(base: str, token: str = ADMIN, *, path: str = "/events", **given: Any) -> AsyncIterator[Reader]:
    headers = ({"authorization": f"Bearer {token}"} if token else {}) | given.pop("headers", {})
    async with (
        httpx2.AsyncClient(timeout=PATIENCE_S) as client,
        client.stream("GET", f"{base}/api/v1{path}", headers=headers, **given) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream"
        yield Reader(answer.aiter_lines())


def dial(base: str, query: str = "", **given: Any) -> connect:
    given.setdefault("additional_headers", {"authorization": f"Bearer {ADMIN}"})
    given.setdefault("open_timeout", PATIENCE_S)
    return connect(base.replace("http", "ws") + "/api/v1/ws" + query, proxy=None, **given)


async def hear(socket: ClientConnection, name: str) -> dict[str, Any]:
    """The next event of this name."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            event: dict[str, Any] = msgspec.json.decode(await socket.recv())
            if event["event"] == name:
                return event


async def until(holds: Callable[[], bool]) -> None:
    """Real time passes until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


async def soon(clock: ManualClock, wanted: Coroutine[Any, Any, T]) -> T:
    """What comes while the clock moves on by seconds, each of which ends when all that it woke sleeps again: the store
    and the sockets take real time."""
    coming = asyncio.create_task(wanted)
    async with asyncio.timeout(2 * PATIENCE_S):
        while not coming.done():
            while clock.sleepers < LOOPS and not coming.done():
                await asyncio.wait({coming}, timeout=0.005)
            await asyncio.wait({coming}, timeout=0.05)
            if not coming.done():
                await clock.advance(1)
    return await coming


async def pass_seconds(clock: ManualClock, count: int) -> None:
    """As many seconds, none of which begins before all that sleep have gone to sleep again."""
    for _ in range(count):
        await until(lambda: clock.sleepers >= LOOPS)
        await clock.advance(1)


@pytest.fixture
async def base(app: Conveyor) -> AsyncIterator[str]:
    async with online(app) as base:
        yield base


async def ticket(base: str, token: str = ADMIN) -> str:
    async with httpx2.AsyncClient(base_url=f"{base}/api/v1", timeout=PATIENCE_S) as client:
        answer = await client.post("/tickets", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])


# What is told


async def test_a_queue_s_changes_and_the_server_s_events_are_told(base: str, app: Conveyor, clock: ManualClock) -> None:
    async with listen(base) as reader:
        first = await reader.next("conveyor.queue.measured")
        assert (first["data"]["queue"], first["data"]["backlog_messages"]) == ("jobs", 0)
        await app.queue("jobs").send(1)
        then = await soon(clock, reader.next("conveyor.queue.measured"))
        assert then["data"]["backlog_messages"] == 1
        assert first["id"] != then["id"]
        app.emit(ScheduleDelayed(error="no"))
        told = await reader.next()
        assert (told["event"], told["data"]["error"]) == ("conveyor.schedule.delayed", "no")
        assert told["data"]["at"].startswith("2026-01-01T12:00:")
        await app.store.delete_queue("jobs")
        assert (await soon(clock, reader.next()))["event"] == "conveyor.queue.deleted"


async def test_what_other_processes_tell_is_told_and_what_this_one_does_only_once(
    base: str, app: Conveyor, clock: ManualClock
) -> None:
    def notice(origin: str, error: str) -> Notice:
        body = msgspec.json.encode({"queue": "jobs", "error": error, "job": "mail"})
        return Notice(origin=origin, at=clock.now_ms(), name="conveyor.message.failed", body=body)

    await app.store.notices.add([notice("there:1", "before anybody listened")])
    async with listen(base) as reader:
        await reader.next("conveyor.queue.measured")
        own = notice(origin_of(app.store), "known already")
        await app.store.notices.add([own, notice("there:1", "one"), notice("there:2", "two")])
        told = await soon(clock, reader.next("conveyor.message.failed"))
        assert (told["data"]["error"], told["data"]["job"]) == ("one", "mail")
        assert (await reader.next())["data"]["error"] == "two"
    async with listen(base, params={"queue": "other"}) as reader, listen(base) as other:
        await other.next("conveyor.queue.measured")
        await app.store.notices.add([notice("there:1", "three")])
        assert (await soon(clock, other.next("conveyor.message.failed")))["data"]["error"] == "three"
        assert reader.said == []


async def test_what_was_missed_is_told_from_an_id_on(base: str, app: Conveyor) -> None:
    async with listen(base) as reader:
        app.emit(ScheduleDelayed(error="0"))
        seen = await reader.next("conveyor.schedule.delayed")
    for number in range(1, 4):
        app.emit(ScheduleDelayed(error=str(number)))
    ways: list[dict[str, Any]] = [{"headers": {"last-event-id": seen["id"]}}, {"params": {"after": seen["id"]}}]
    for way in ways:
        async with listen(base, ADMIN, **way) as reader:
            errors = [(await reader.next("conveyor.schedule.delayed"))["data"]["error"] for _ in range(3)]
        assert errors == ["1", "2", "3"]
        assert all(event["event"] != "conveyor.stream.gap" for event in reader.said)


async def test_what_cannot_be_told_any_more_is_a_gap(base: str, app: Conveyor) -> None:
    async with listen(base) as reader:
        app.emit(ScheduleDelayed(error="0"))
        seen = await reader.next("conveyor.schedule.delayed")
    for number in range(RING_MAX + 5):
        app.emit(ScheduleDelayed(error=str(number)))
    for unknown in (seen["id"], "another-7", "x"):
        async with listen(base, headers={"last-event-id": unknown}) as reader:
            gap = await reader.next()
            assert (gap["event"], gap["id"], gap["data"]["after"]) == ("conveyor.stream.gap", None, unknown)
            left = await reader.next("conveyor.schedule.delayed")
            assert int(left["data"]["error"]) >= 5, "what is left is told all the same"


async def test_only_what_is_asked_for_is_told(base: str, app: Conveyor) -> None:
    await app.store.create_queue("other", (await app.store.get_queue("jobs")).settings)
    async with listen(base, params={"queue": "o*", "event": "conveyor.queue"}) as reader:
        app.emit(ScheduleDelayed(error="no"))
        assert (await reader.next())["data"]["queue"] == "other"
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.get(f"{base}/api/v1/events?color=red", headers={"authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 422


async def test_a_bound_token_hears_of_its_queues_alone(base: str, app: Conveyor, clock: ManualClock) -> None:
    await app.store.create_queue("secret", (await app.store.get_queue("jobs")).settings)
    async with listen(base, await a_token(app, Right.READ, queues=("jobs",))) as reader:
        assert (await reader.next())["data"]["queue"] == "jobs"
        app.emit(ScheduleDelayed(error="not theirs"))
        await app.queue("secret").send(1)
        await clock.advance(1)
        await app.queue("jobs").send(1)
        assert (await soon(clock, reader.next()))["data"]["backlog_messages"] == 1
    assert {event["data"]["queue"] for event in reader.said} == {"jobs"}


async def test_what_concerns_the_server_s_inside_is_for_admins(base: str, app: Conveyor) -> None:
    async with listen(base, await a_token(app, Right.READ)) as reader, listen(base) as admin:
        app.emit(AccessRefused(address="10.0.0.9"))
        app.emit(ScheduleDelayed(error="no"))
        await admin.next("conveyor.access.refused")
        await reader.next("conveyor.schedule.delayed")
    assert "conveyor.access.refused" not in {event["event"] for event in reader.said}


async def test_silence_is_filled_with_heartbeats(base: str, app: Conveyor, clock: ManualClock) -> None:
    async with listen(base) as reader:
        await reader.next()
        beat = asyncio.create_task(reader.beat())
        await pass_seconds(clock, 14)
        assert not beat.done()
        await pass_seconds(clock, 3)
        await beat


# How it ends


async def test_a_revoked_token_s_streams_are_closed_within_five_seconds(
    base: str, app: Conveyor, clock: ManualClock
) -> None:
    tokens = Tokens(app.store)
    token, secret = await tokens.create("x", frozenset({Right.READ}), created_by="a test")
    async with listen(base, str(secret)) as reader, dial(base, f"?ticket={await ticket(base, str(secret))}") as socket:
        await reader.next()
        await tokens.revoke(token.id)
        began = clock.monotonic()
        last = await soon(clock, reader.next("conveyor.stream.closed"))
        assert clock.monotonic() - began <= 5
        assert last["data"]["reason"] == "revoked"
        with pytest.raises(EOFError):
            await reader.next()
        assert (await hear(socket, "conveyor.stream.closed"))["data"]["reason"] == "revoked"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


async def test_an_expired_token_s_stream_is_closed(base: str, app: Conveyor, clock: ManualClock) -> None:
    secret = await a_token(app, Right.READ, expires_at=clock.now_ms() + 10_000)
    async with listen(base, secret) as reader:
        await reader.next()
        await soon(clock, reader.next("conveyor.stream.closed"))


async def test_a_reader_that_does_not_keep_up_is_cut_off_and_told_so(app: Conveyor) -> None:
    async with online(app) as base, dial(base, max_queue=1) as socket:
        await hear(socket, "conveyor.queue.measured")
        for _ in range(BUFFER_MAX * 4):
            app.emit(ScheduleDelayed(error="x" * 2_000))
        told = 0
        async with asyncio.timeout(PATIENCE_S):
            while (event := msgspec.json.decode(await socket.recv()))["event"] != "conveyor.stream.closed":
                told += 1
        assert event["data"]["reason"] == "slow"
        assert told <= BUFFER_MAX + 1


async def test_a_client_that_takes_nothing_is_hung_up_on(
    base: str, app: Conveyor, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conveyor.server.wire.WRITE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]), limit=1_024)
    head = f"GET /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {ADMIN}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: clock.sleepers == LOOPS)
    for _ in range(20):  # 40 MB, which no socket holds
        for _ in range(BUFFER_MAX // 4):
            app.emit(ScheduleDelayed(error="x" * 4_000))
        await asyncio.sleep(0.01)
    await until(lambda: clock.sleepers == 0)
    writer.transport.abort()


async def test_nobody_is_left_behind_when_clients_go_away(base: str, app: Conveyor, clock: ManualClock) -> None:
    async with listen(base) as reader, dial(base) as socket:
        await reader.next()
        await hear(socket, "conveyor.queue.measured")
        sleepers = clock.sleepers
        assert sleepers > 0
    await until(lambda: clock.sleepers == 0)  # nothing is looked at for nobody


async def test_a_server_that_ends_says_so(app: Conveyor) -> None:
    async with contextlib.AsyncExitStack() as stack:
        base = await stack.enter_async_context(online(app))
        async with listen(base) as reader, dial(base) as socket:
            await reader.next()
            await hear(socket, "conveyor.queue.measured")
            ending = asyncio.create_task(stack.aclose())
            assert (await reader.next("conveyor.stream.closed"))["data"]["reason"] == Ending.SHUTDOWN
            assert (await hear(socket, "conveyor.stream.closed"))["data"]["reason"] == Ending.SHUTDOWN
        await ending


# Who comes in


async def test_a_ticket_opens_one_stream_within_thirty_seconds(base: str, app: Conveyor, clock: ManualClock) -> None:
    one, late = await ticket(base), await ticket(base)
    async with listen(base, "", path=f"/events/{one}") as reader:
        await reader.next()
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        assert (await client.get(f"{base}/api/v1/events/{one}")).status_code == 401
        await clock.advance(30)
        assert (await client.get(f"{base}/api/v1/events/{late}")).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        async with dial(base, f"?ticket={one}", additional_headers={}):
            pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"additional_headers": {}}, 401),
        ({"additional_headers": {"authorization": "Bearer cvy_no"}}, 401),
        ({"origin": "https://evil.example"}, 403),
        ({"query": f"?token={ADMIN}"}, 422),
        ({"query": "?queue="}, 422),
    ],
)
async def test_a_handshake_is_refused(base: str, given: dict[str, Any], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with dial(base, **given):
            pass
    assert refused.value.response.status_code == status
    assert msgspec.json.decode(refused.value.response.body)["code"]


async def test_the_own_origin_may_dial_and_who_may_not_read_may_not(base: str, app: Conveyor) -> None:
    async with dial(base, origin=base) as socket:
        await hear(socket, "conveyor.queue.measured")
    sends = {"authorization": f"Bearer {await a_token(app, Right.SEND)}"}
    with pytest.raises(InvalidStatus) as refused:
        async with dial(base, additional_headers=sends):
            pass
    assert refused.value.response.status_code == 403


async def test_a_websocket_tells_the_same_from_an_id_on_and_only_speaks(base: str, app: Conveyor) -> None:
    async with dial(base) as socket:
        app.emit(ScheduleDelayed(error="0"))
        seen = await hear(socket, "conveyor.schedule.delayed")
        await socket.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003
    app.emit(ScheduleDelayed(error="1"))
    async with dial(base, f"?after={seen['id']}&event=conveyor.schedule") as socket:
        assert (await hear(socket, "conveyor.schedule.delayed"))["data"]["error"] == "1"


async def test_streams_are_bounded_in_number(base: str, app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor.server.rest.hub.LISTENERS_OF_TOKEN_MAX", 1)
    async with listen(base) as reader:
        await reader.next()
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
            answer = await client.get(f"{base}/api/v1/events", headers={"authorization": f"Bearer {ADMIN}"})
        assert answer.status_code == 429 and answer.headers["retry-after"]
        async with listen(base, await a_token(app, Right.READ)) as other:
            app.emit(ScheduleDelayed(error="no"))
            await other.next()
