"""Watching one job over HTTP: its log, its output, its stream, and what an end user's token may not do."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conveyor import Conveyor, Job, JobContext
from conveyor.jobs.watching import PREFIX
from conveyor.model.errors import InvalidDurationError
from conveyor.model.ids import MessageId
from conveyor.server.rest.tickets import Tickets
from conveyor.server.rest.watching import JobStreams
from conveyor.server.rights import NOBODY, Right
from conveyor.server.tokens import Tokens
from kit.online import online
from kit.served import ADMIN, BASE, a_token

pytestmark = pytest.mark.anyio
PATIENCE_S = 50.0


def as_(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class Film:
    """An app with one job that speaks, and goes on when it is told."""

    def __init__(self, app: Conveyor) -> None:
        self.app = app
        self.go_on = asyncio.Event()

        @app.job(max_retries=0)
        async def render(number: int, context: JobContext) -> None:
            context.log("begin")
            context.write(b"\xff\x00" if number < 0 else "frame 1\n")
            context.progress(0.5, "half")
            await self.go_on.wait()
            context.log("end", level="warning")

        self.render = render

    async def ended(self, number: int = 1) -> Job[None]:
        self.go_on.set()
        job = await self.render.enqueue(number)
        working = asyncio.create_task(self.app.work())
        await job.result(timeout=PATIENCE_S)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return job


@pytest.fixture
async def film(tmp_path: Path) -> AsyncIterator[Film]:
    film = Film(Conveyor("shop", url=f"sqlite:///{tmp_path}/shop.db"))
    async with film.app:
        yield film


@pytest.fixture
def app(film: Film) -> Conveyor:
    return film.app


def read_events(text: str) -> list[dict[str, Any]]:
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            events.append(
                {"id": fields.get("id"), "event": fields["event"], "data": msgspec.json.decode(fields["data"])}
            )
    return events


async def test_log_output_and_progress_of_a_job(film: Film, api: httpx2.AsyncClient) -> None:
    job = await film.ended()
    logs = (await api.get(f"/jobs/{job.id}/logs")).json()
    assert [(each["level"], each["text"], each["attempt"]) for each in logs["items"]] == [
        ("info", "begin", 1), ("warning", "end", 1),
    ]  # fmt: skip
    assert logs["next_cursor"] is None
    page = (await api.get(f"/jobs/{job.id}/logs", params={"limit": 1})).json()
    assert [each["text"] for each in page["items"]] == ["begin"]
    assert (await api.get(f"/jobs/{job.id}/output")).json() == {"text": "frame 1\n", "base64": None}
    progress = (await api.get(f"/jobs/{job.id}")).json()["progress"]
    assert (progress["fraction"], progress["note"]) == (0.5, "half")
    raw = await film.ended(-1)
    found = (await api.get(f"/jobs/{raw.id}/output")).json()
    assert (found["text"], base64.b64decode(found["base64"])) == (None, b"\xff\x00")


async def test_a_stream_ends_with_its_job_and_can_be_taken_up_again(film: Film, api: httpx2.AsyncClient) -> None:
    job = await film.ended()
    answer = await api.get(f"/jobs/{job.id}/stream")
    assert answer.headers["content-type"] == "text/event-stream"
    events = read_events(answer.text)
    assert [each["event"] for each in events] == ["log", "output", "progress", "log", "end"]
    assert events[-1]["data"] == {"state": "succeeded"}
    again = await api.get(f"/jobs/{job.id}/stream", headers={"last-event-id": events[2]["id"]})
    assert read_events(again.text) == events[3:]
    over = await api.get(f"/jobs/{job.id}/stream", headers={"last-event-id": events[-1]["id"]})
    assert over.status_code == 204, "an EventSource must not come back for ever"
    strange = await api.get(f"/jobs/{job.id}/stream", params={"after": "3f-1"})
    assert strange.status_code == 422
    assert (await api.get(f"/jobs/{'00' * 16}/stream")).status_code == 404


async def test_who_sees_what_a_job_says_is_in_the_trail(film: Film, api: httpx2.AsyncClient, app: Conveyor) -> None:
    """An end user, who sees what its own job says, is not."""
    job = await film.ended()
    own, reader = as_(await app.jobs.token(job)), as_(await a_token(app, Right.READ))
    await api.get(f"/jobs/{job.id}")
    for headers in (own, reader):
        for below in ("logs", "output", "stream"):
            assert (await api.get(f"/jobs/{job.id}/{below}", headers=headers)).status_code == 200
        ticket = (await api.post(f"/jobs/{job.id}/tickets", headers=headers)).json()["ticket"]
        by_ticket = await api.get(f"/jobs/{job.id}/stream/{ticket}", headers={"authorization": ""})
        assert by_ticket.status_code == 200
    records = (await api.get("/audit", params={"action": "job.*"})).json()["items"]
    assert [(each["action"], each["target"], each["result"]) for each in records] == [("job.peek", job.id, "ok")] * 4
    assert len({each["actor"] for each in records}) == 1
    async with online(app) as url:
        address = f"{url.replace('http', 'ws')}/api/v1/jobs/{job.id}/ws"
        for headers in (own, reader):
            async with connect(address, additional_headers=headers) as socket:
                await socket.recv()
    assert len((await api.get("/audit", params={"action": "job.peek"})).json()["items"]) == 5


async def test_it_is_told_while_the_job_runs(film: Film, app: Conveyor) -> None:
    async with online(app) as url, httpx2.AsyncClient(base_url=url, headers=as_(ADMIN), timeout=PATIENCE_S) as client:
        job = await film.render.enqueue(1)
        working = asyncio.create_task(app.work())
        names: list[str] = []
        async with client.stream("GET", f"/api/v1/jobs/{job.id}/stream") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                if names == ["log", "output", "progress"]:
                    film.go_on.set()
        assert names == ["log", "output", "progress", "log", "end"]
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_over_a_web_socket(film: Film, app: Conveyor) -> None:
    async with online(app) as url:
        job = await film.ended()
        token, address = await app.jobs.token(job), f"{url.replace('http', 'ws')}/api/v1/jobs/{job.id}/ws"
        async with connect(address, open_timeout=PATIENCE_S, additional_headers=as_(token)) as socket:
            said = [msgspec.json.decode(await socket.recv()) for _ in range(5)]
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert [each["event"] for each in said] == ["log", "output", "progress", "log", "end"]
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
        async with connect(f"{address}?after={said[3]['id']}", additional_headers=as_(token)) as socket:
            assert msgspec.json.decode(await socket.recv()) == said[4]
        other = await film.ended()
        with pytest.raises(InvalidStatus, match="403"):
            async with connect(address.replace(job.id, other.id), additional_headers=as_(token)):
                pass
        with pytest.raises(InvalidStatus, match="403"):
            async with connect(address, open_timeout=PATIENCE_S, additional_headers=as_(token), origin="https://evil.example"):  # type: ignore[arg-type]  # any origin, as a browser says it
                pass


async def test_a_browser_comes_by_ticket(film: Film, api: httpx2.AsyncClient, app: Conveyor) -> None:
    job, other = await film.ended(), await film.ended()
    headers = as_(await app.jobs.token(job))
    path = f"/jobs/{job.id}/tickets"
    ticket = (await api.post(path, headers=headers)).json()["ticket"]
    answer = await api.get(f"/jobs/{job.id}/stream/{ticket}", headers={"authorization": ""})
    assert read_events(answer.text)[-1]["event"] == "end"
    assert (await api.get(f"/jobs/{job.id}/stream/{ticket}")).status_code == 401, "once"
    for strange in (f"/jobs/{other.id}/stream/", "/events/"):
        ticket = (await api.post(path, headers=headers)).json()["ticket"]
        assert (await api.get(f"{strange}{ticket}", headers={"authorization": ""})).status_code == 403, strange


async def test_an_end_users_token_watches_its_job_and_does_nothing_else(
    film: Film, api: httpx2.AsyncClient, app: Conveyor
) -> None:
    document = (await api.get("/openapi.json")).json()
    job, other = await film.ended(), await film.ended()
    headers = as_(await app.jobs.token(job.id, expires_in="5m"))
    own = {f"/jobs/{{job}}/{each}" for each in ("logs", "output", "stream")}
    public = {"/openapi.json", "/events/{ticket}", "/jobs/{job}/stream/{ticket}"}
    asked = 0
    for path, methods in document["paths"].items():
        for method in methods.keys() & {"get", "post", "put", "patch", "delete"}:
            below = path.removeprefix("/api/v1")
            if below in public:
                continue
            for id in (job.id, other.id):
                answer = await api.request(method, below.replace("{job}", id), headers=headers, json=None)
                is_own = id == job.id and (below in own or below == "/jobs/{job}/tickets")
                assert (answer.status_code in (200, 201)) is is_own, (method, path, answer.text)
                assert is_own or answer.status_code == 403, (method, path, answer.text)
                asked += 1
    assert asked > 80
    for path in ("/client/v4/user", "/client/v4/accounts", "/client/v4/user/tokens/verify"):
        assert (await api.get(f"{BASE}{path}", headers=headers)).status_code == 403, path


async def test_a_token_ends_and_cannot_be_made_up(film: Film, api: httpx2.AsyncClient, app: Conveyor) -> None:
    job, other = await film.ended(), await film.ended()
    token = await app.jobs.token(job)
    path = f"/jobs/{job.id}/logs"
    assert (await api.get(path, headers=as_(token))).status_code == 200
    for forged in (
        token[:-1] + ("0" if token[-1] != "0" else "1"), PREFIX + other.id + token[len(PREFIX) + 32 :], PREFIX, PREFIX + "zz",
        PREFIX + token[len(PREFIX) : len(PREFIX) + 32] + "f" * 16 + token[len(PREFIX) + 48 :],
    ):  # fmt: skip
        assert (await api.get(path, headers=as_(forged))).status_code == 401, forged
    brief = await app.jobs.token(job, expires_in="10ms")
    await app.store.clock.sleep(0.02)
    assert (await api.get(path, headers=as_(brief))).status_code == 401
    for bad in (0, "31d"):
        with pytest.raises(InvalidDurationError, match="expires_in"):
            await app.jobs.token(job, expires_in=bad)
    await app.jobs.revoke_tokens()
    unseen = await app.jobs.token(other)
    assert (await api.get(f"/jobs/{other.id}/logs", headers=as_(unseen))).status_code == 200


async def test_other_tokens_need_the_right_to_read_the_whole_store(
    film: Film, api: httpx2.AsyncClient, app: Conveyor
) -> None:
    job = await film.ended()
    for token, status in (
        (await a_token(app, Right.READ), 200), (await a_token(app, Right.SEND), 403),
        (await a_token(app, Right.READ, queues=("shop-*",)), 403),
    ):  # fmt: skip
        assert (await api.get(f"/jobs/{job.id}/logs", headers=as_(token))).status_code == status


async def test_a_revoked_token_closes_its_stream(film: Film, app: Conveyor) -> None:
    async with online(app) as url:
        job = await film.render.enqueue(1)
        headers = as_(await app.jobs.token(job))
        async with (
            httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as client,
            client.stream("GET", f"/api/v1/jobs/{job.id}/stream") as answer,
        ):
            assert answer.status_code == 200
            await app.jobs.revoke_tokens()
            text = "".join([line + "\n" async for line in answer.aiter_lines()])
        assert read_events(text) == [{"id": None, "event": "closed", "data": {"reason": "revoked"}}]


async def test_streams_end_with_the_server(film: Film, app: Conveyor) -> None:
    streams = JobStreams(app, Tokens(app.store), Tickets(lambda: app.store.clock))
    streams.open()
    job = await film.render.enqueue(1)
    told = streams.watch(NOBODY, MessageId(bytes.fromhex(job.id)), 0)
    waiting = asyncio.ensure_future(anext(told))
    await job.state()  # meanwhile it has begun to wait
    closing = asyncio.create_task(streams.close())
    assert (await waiting).data == {"reason": "shutdown"}
    await told.aclose()
    await closing
