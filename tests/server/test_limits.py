"""What is too much, too deep, too slow or no HTTP at all: told so in 4xx, never 5xx, and at no great cost."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import random
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import connect

from conveyor import Conveyor
from conveyor.model.clock import SystemClock
from conveyor.model.errors import BodyTooLargeError
from conveyor.model.events import ConnectionTroubled
from conveyor.model.refusals import InvalidRequestError
from conveyor.server import listening, wire
from conveyor.server.binding import Binding
from conveyor.server.endpoint import BODY_MAX, Answer, Call, Endpoint
from conveyor.server.listening import BoundedProtocol
from conveyor.server.reading import DEPTH_MAX, DIGITS_MAX, KEYS_MAX, check_json, read_body
from conveyor.server.rights import Right
from conveyor.server.web import _configure, _listen_to_uvicorn
from kit.served import ADMIN, Client, client_of, make_wire

pytestmark = pytest.mark.anyio


class Draft(msgspec.Struct, forbid_unknown_fields=True):
    body: Any
    delay: int = 0


async def take(call: Call) -> Answer:
    return Answer.json({"size": len(call.body), "draft": call.decode(Draft)})


async def query(call: Call) -> Answer:
    return Answer.json({"limit": call.query.number("limit", 10, least=1, most=100), "all": call.query.all("a")})


async def key(call: Call) -> Answer:
    return Answer.json(call.path)


TAKE = Endpoint(method="POST", path="/take", right=Right.SEND, handle=take)
ENDPOINTS = [
    TAKE,
    Endpoint(method="GET", path="/query", right=Right.READ, handle=query),
    Endpoint(method="GET", path="/spaces/{space}/keys/{key:path}", right=Right.READ, handle=key),
    Endpoint(method="GET", path="/spaces/{space}", right=Right.READ, handle=key),
    Endpoint(method="GET", path="/spaces/all", right=Right.READ, handle=query),
]


@pytest.fixture
async def client(app: Conveyor) -> AsyncIterator[Client]:
    async with client_of(make_wire(app, ENDPOINTS)) as client:
        yield client


def nested(depth: int) -> bytes:
    return b'{"body":' + b"[" * depth + b"]" * depth + b"}"


BAD: dict[str, tuple[bytes, int]] = {
    "deep arrays": (nested(100_000 // 2), 400),
    "deeper than fits": (b"[" * 100_000, 400),
    "deep objects": (b'{"body":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}", 400),
    "a level too deep": (nested(DEPTH_MAX), 400),
    "many digits": (b'{"body":' + b"9" * (DIGITS_MAX + 1) + b"}", 400),
    "many keys": (b'{"body":{' + b",".join(b'"%d":1' % n for n in range(KEYS_MAX + 1)) + b"}}", 400),
    "unknown field": (b'{"body":1,"attempts":0,"state":"DONE"}', 422),
    "wrong type": (b'{"body":1,"delay":"soon"}', 422),
    "no object": (b"[1]", 422),
    "missing field": (b"{}", 422),
    "empty": (b"", 400),
    "half": (b'{"body":', 400),
    "not UTF-8": (b'{"body":"\xff"}', 400),
    "half a pair": (b'{"body":"\\ud800"}', 400),
    "huge number": (b'{"body":1,"delay":1e999}', 422),
    "NaN": (b'{"body":NaN}', 400),
    "two": (b'{"body":1}{"body":2}', 400),
    "NUL": (b"\0", 400),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_body_is_told_so(client: Client, name: str) -> None:
    body, status = BAD[name]
    answer = await client.ask("POST", "/x/take", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text


@pytest.mark.parametrize(
    "body",
    [
        nested(DEPTH_MAX - 1),
        b'{"body":"' + b"[{" * 1_000 + b'"}',
        b'{"body":"\\"' + b"[{" * 1_000 + b'\\\\"}',
        b'{"body":[' + b",".join(b'{"a":[1]}' for _ in range(1_000)) + b"]}",
        b'{"body":"' + b":" * 20_000 + b'"}',
        b'{"body":"' + b"9" * 20_000 + b'"}',
        b'{"body":' + b"9" * 300 + b"}",
    ],
)
async def test_what_only_looks_bad_is_taken(client: Client, body: bytes) -> None:
    answer = await client.ask("POST", "/x/take", content=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("body", [b"[" * 100_000, nested(50_000), b'{"a":' * 25_000, b'["\\' * 30_000, b"[]" * 60_000])
def test_looking_at_a_bomb_takes_little_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(InvalidRequestError):
            check_json(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_large_body_is_refused_before_it_is_read(client: Client) -> None:
    answer = await client.ask("POST", "/x/take", content=b" " * (BODY_MAX + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    fits = b'{"body":"' + b"x" * (BODY_MAX - 11) + b'"}'
    assert (await client.ask("POST", "/x/take", content=fits)).json()["size"] == BODY_MAX


async def test_a_body_of_unknown_length_is_read_no_further_than_allowed() -> None:
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": True}

    with pytest.raises(BodyTooLargeError):
        await read_body(receive, 10_500)
    assert asked == 11


async def test_a_client_that_goes_away_is_told_nothing_worse(app: Conveyor) -> None:
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {ADMIN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/x/take", "query_string": b"", "headers": headers}
    await make_wire(app, ENDPOINTS)(scope, receive, send)
    assert said[0]["status"] == 400


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, identity", "x"])
async def test_compressed_bodies_are_refused(client: Client, encoding: str) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    answer = await client.ask("POST", "/x/take", content=bomb, headers={"content-encoding": encoding})
    assert answer.status_code == 415
    plain = await client.ask("POST", "/x/take", content=b'{"body":1}', headers={"content-encoding": "identity"})
    assert plain.status_code == 200


@pytest.mark.parametrize(("coding", "expected"), [("chunked", 200), ("Chunked", 200), ("gzip, chunked", 415)])
async def test_no_coding_of_the_transfer_is_taken_but_chunks(client: Client, coding: str, expected: int) -> None:
    """The server takes the chunks apart; of another coding under them it would hand us the bytes as they are."""
    answer = await client.ask("POST", "/x/take", content=b'{"body":1}', headers={"transfer-encoding": coding})
    assert answer.status_code == expected


async def test_a_handler_that_takes_too_long_is_ended(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REQUEST_S", 0.01)
    ended = asyncio.Event()

    async def hang(_call: Call) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async def own(_call: Call) -> Answer:
        raise TimeoutError("the handler's own")

    endpoints = [
        Endpoint(method="GET", path="/hang", right=Right.READ, handle=hang),
        Endpoint(method="GET", path="/own", right=Right.READ, handle=own),
    ]
    async with client_of(make_wire(app, endpoints)) as client:
        answer = await client.ask("GET", "/x/hang")
        assert answer.status_code == 408 and ended.is_set()
        assert (await client.ask("GET", "/x/own")).status_code == 500


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", 200),
        ("limit=7", 200),
        ("&".join(["a=1"] * 10_000), 400),
        ("limit=" + "9" * 5_000, 400),
        ("limit=0", 400),
        ("limit=101", 400),
        ("limit=-1", 400),
        ("limit=1e3", 400),
        ("limit=%D9%A1", 400),
        ("limit=", 400),
        ("a=%FF", 400),
        ("a=%", 200),
        ("=&=&;;", 200),
        ("limit=5%00", 400),
    ],
)
async def test_queries(client: Client, text: str, status: int) -> None:
    assert (await client.ask("GET", f"/x/query?{text}")).status_code == status


async def test_a_path_is_split_first_and_decoded_once(client: Client) -> None:
    async def values(path: str) -> Any:
        return (await client.ask("GET", path)).json()

    assert await values("/x/spaces/a%2Fb/keys/c%252F/d%20e") == {"space": "a/b", "key": "c%2F/d e"}
    assert await values("/x/spaces/a/keys/x%00y") == {"space": "a", "key": "x\0y"}
    assert await values("/x/spaces/a") == {"space": "a"}
    assert "limit" in await values("/x/spaces/all"), "the literal goes first"
    assert (await client.ask("GET", "/x/spaces/%FF")).status_code == 400
    for path in ("/x/spaces/", "/x/spaces", "/x/spaces/a/", "/x/spaces/a/keys/", "/x/"):
        assert (await client.ask("GET", path)).status_code == 404, path


# Over a socket


def listening_on(
    app: Conveyor, endpoints: Sequence[Endpoint] = ENDPOINTS
) -> contextlib.AbstractAsyncContextManager[int]:
    return serving(make_wire(app, endpoints))


@contextlib.asynccontextmanager
async def serving(asgi: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        asgi, http=BoundedProtocol, ws="websockets-sansio", port=0, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # none of a test's
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await server.shutdown()


async def speak(port: int, *pieces: bytes, ends: bool = True) -> bytes:
    """What comes back until the connection is closed, or quiet for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if ends:
            writer.write_eof()
        said = await asyncio.wait_for(reader.read(), 60)
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()
    return said


HEAD = b"Host: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer " + ADMIN.encode() + b"\r\n"


async def test_a_head_that_does_not_end_is_not_waited_for(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening_on(app) as port:
        monkeypatch.setattr(listening, "HEAD_S", 0.05)
        for begun in (b"", b"GET /x/query HTTP/1.1\r\nHo", b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
        monkeypatch.setattr(listening, "HEAD_S", 60)
        assert b" 200 " in await speak(port, b"GET /x/query HTTP/1.1\r\n" + HEAD + b"\r\n")


async def test_a_request_that_is_under_way_is_not_cut_off(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body may take longer than a head may."""
    monkeypatch.setattr(listening, "HEAD_S", 0.5)  # in which even a busy machine reads it
    async with listening_on(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x/take HTTP/1.1\r\nContent-Length: 10\r\n" + HEAD + b"\r\n" + b'{"body"')
        await SystemClock().sleep(0.7)
        writer.write(b":1}")
        assert b" 200 " in await asyncio.wait_for(reader.read(), 60)
        writer.close()


async def test_a_websocket_outlives_the_time_of_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    async def echo(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (said := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": said["text"]})

    monkeypatch.setattr(listening, "HEAD_S", 0.5)
    async with serving(echo) as port, connect(f"ws://127.0.0.1:{port}/", proxy=None, open_timeout=60) as socket:
        await SystemClock().sleep(0.7)
        await socket.send("still here")
        assert await asyncio.wait_for(socket.recv(), 60) == "still here"


async def test_a_large_head_is_refused(app: Conveyor) -> None:
    async with listening_on(app) as port:
        for head in (b"X: " + b"x" * 20_000 + b"\r\n", b"".join(b"X-%d: y\r\n" % n for n in range(5_000))):
            said = await speak(port, b"GET /x/query HTTP/1.1\r\n" + HEAD + head + b"\r\n")
            assert said.startswith(b"HTTP/1.1 431 ") and said.count(b"HTTP/1.1") == 1, said[:200]
        said = await speak(port, b"GET /x/query?" + b"x" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert said.startswith(b"HTTP/1.1 431 ")


async def test_answers_come_whole_one_after_another(app: Conveyor) -> None:
    """In one write each, kept alive and pipelined; the last as ASGI sends it."""
    ask = HEAD.replace(b"Connection: close\r\n", b"")
    odd = Endpoint(method="GET", path="/odd", right=None, handle=odd_header)
    async with listening_on(app, [*ENDPOINTS, odd]) as port:
        said = await speak(
            port,
            b"GET /x/query HTTP/1.1\r\n" + ask + b"\r\n" + b"GET /x/query?limit=7 HTTP/1.1\r\n" + ask + b"\r\n",
            b"HEAD /x/query HTTP/1.1\r\n" + ask + b"\r\n" + b"GET /x/none HTTP/1.1\r\n" + ask + b"\r\n",
            b"GET /x/query HTTP/1.1\r\n" + HEAD + b"\r\n",
            ends=False,
        )
        split = await speak(port, b"GET /x/odd HTTP/1.1\r\n" + ask + b"\r\n", ends=False)
    heads = [part.partition(b"\r\n\r\n") for part in said.split(b"HTTP/1.1 ")[1:]]
    assert [head[:3] for head, _, _ in heads] == [b"200", b"200", b"200", b"404", b"200"]
    assert [body for _, _, body in heads][:3] == [b'{"limit":10,"all":[]}', b'{"limit":7,"all":[]}', b""]
    for head, _, body in heads:
        names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
        assert len(names) == len(set(names)) and {b"x-content-type-options", b"x-request-id"} <= set(names)
        assert not body or b"content-length: %d" % len(body) in head
    assert b"evil" not in split


async def odd_header(_call: Call) -> Answer:
    return Answer(200, b"{}", headers=((b"x-name", b"a\r\nevil: 1"),))


MALFORMED = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET /x/query HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /x/take HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + HEAD + b"\r\n{}",
    b"POST /x/take HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"\r\n0\r\n\r\n",
    b"POST /x/take HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"\r\nzz\r\n",
    b"POST /x/take HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"\r\nffffffffffffffffff\r\n",
    b"POST /x/take HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n" + HEAD + b"\r\n{}",
    b"POST /x/take HTTP/1.1\r\nContent-Length: 9\r\n" + HEAD + b"\r\n{}",
    b"GET /x/\xff\xfe HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET http://[::1/x HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET * HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET /x/query HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /x/query HTTP/1.1\r\nbad header\r\n" + HEAD + b"\r\n",
    b"GET /x/query HTTP/1.1\r\nOrigin: http://[\r\n" + HEAD + b"\r\n",
    b"POST /x/take HTTP/1.1\r\nContent-Type: \xff/\xff\r\nContent-Length: 2\r\n" + HEAD + b"\r\n{}",
    b"BREW /x/query HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET /x/spaces/a/keys/%zz%u0041 HTTP/1.1\r\n" + HEAD + b"\r\n",
]


async def test_what_is_no_request_is_no_fault_of_ours(app: Conveyor, events: list[Any]) -> None:
    async with listening_on(app) as port:
        for bad in MALFORMED:
            said = await speak(port, bad)
            assert b"HTTP/1.1 5" not in said, (bad, said)
        assert b" 200 " in await speak(port, b"GET /x/query HTTP/1.1\r\n" + HEAD + b"\r\n"), "and it goes on"
    assert [event for event in events if event.name == "conveyor.request.failed"] == []


async def test_what_the_library_logs_is_an_event_without_the_words_of_exceptions(events: list[Any]) -> None:
    _listen_to_uvicorn(events.append)
    log = logging.getLogger("uvicorn.error")
    try:
        log.info("not this")
        log.warning("Invalid HTTP request received.\n")
        try:
            raise ValueError("canary")
        except ValueError:
            log.exception("Exception in ASGI application\n")
    finally:
        log.handlers, log.propagate = [], True
    assert events == [
        ConnectionTroubled(problem="Invalid HTTP request received.", error=None),
        ConnectionTroubled(problem="Exception in ASGI application", error="ValueError"),
    ]


def test_nobody_is_believed_who_speaks_for_others_unless_listed() -> None:
    assert not _configure(Starlette(), Binding()).proxy_headers
    config = _configure(Starlette(), Binding(proxies=("10.0.0.1",)))
    assert config.proxy_headers and config.forwarded_allow_ips == ["10.0.0.1"]


async def test_noise_is_no_fault_of_ours(app: Conveyor, events: list[Any]) -> None:
    dice = random.Random(4)
    good = b"POST /x/take?limit=1 HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10\r\n" + HEAD + b'\r\n{"body":1}'
    async with listening_on(app) as port:
        for _ in range(200):
            bad = bytearray(good)
            for _ in range(dice.randint(1, 4)):
                bad[dice.randrange(len(bad))] = dice.randrange(256)
            assert b"HTTP/1.1 5" not in await speak(port, bytes(bad)), bad
    assert [event for event in events if event.name == "conveyor.request.failed"] == []
