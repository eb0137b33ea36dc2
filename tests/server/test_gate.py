"""Who comes in, how often, and under which name: nothing behind the gate is asked before that is settled."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.model.errors import StoreFullError
from conveyor.model.events import AccessRefused, Event, RequestFailed
from conveyor.model.refusals import MisdirectedError
from conveyor.server.asgi import make_asgi
from conveyor.server.binding import LOOPBACK
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.gate import Rates, check_site
from conveyor.server.hosts import HostGuard
from conveyor.server.rights import Right
from conveyor.testing.clock import ManualClock
from kit.served import ADMIN, a_token, client_of, make_wire, serving

pytestmark = pytest.mark.anyio


async def fine(_call: Call) -> Answer:
    return Answer.json("fine")


READ = Endpoint(method="GET", path="/it", right=Right.READ, handle=fine, scope="store")
CHANGE = Endpoint(method="POST", path="/it", right=Right.MANAGE, handle=fine, scope="store")


async def test_brute_force_is_slowed_and_the_answer_is_constant(app: Conveyor, clock: ManualClock, events: list[Event]) -> None:
    valid = await a_token(app, Right.READ)
    async with client_of(make_wire(app, [READ])) as client:
        wrong = [await client.ask("GET", "/x/it", f"cvy_{n:088x}") for n in range(100)]
        assert [each.status_code for each in wrong] == [401] * 10 + [429] * 90
        said = [{name: value for name, value in each.json().items() if name != "request_id"} for each in wrong]
        assert all(each == said[0] for each in said[:10]) and all(each == said[10] for each in said[10:])
        assert wrong[-1].headers["retry-after"] == "60"
        assert (await client.ask("GET", "/x/it", valid)).status_code == 429, "also the right one, before it is looked up"
        assert (await client.ask("GET", "/x/it", ADMIN)).status_code == 200, "but whoever is known goes on"
        await clock.advance(60)
        assert (await client.ask("GET", "/x/it", valid)).status_code == 200
    assert [event for event in events if isinstance(event, AccessRefused)] == [AccessRefused(address="127.0.0.1")] * 10


async def test_other_addresses_are_not_slowed(app: Conveyor) -> None:
    valid = await a_token(app, Right.READ)
    wire = make_wire(app, [READ])
    async with client_of(wire) as client, client_of(wire, "10.0.0.9") as other:
        for number in range(11):
            answer = await client.ask("GET", "/x/it", f"cvy_{number:088x}")
        assert answer.status_code == 429
        assert (await other.ask("GET", "/x/it", valid)).status_code == 200


async def test_nobody_fails_by_coming_without_a_token(app: Conveyor) -> None:
    async with client_of(make_wire(app, [READ])) as client:
        assert {(await client.ask("GET", "/x/it", None)).status_code for _ in range(20)} == {401}


async def test_a_burst_of_one_token_has_an_end_and_says_when_to_come_again(app: Conveyor, clock: ManualClock) -> None:
    tokens = [await a_token(app, Right.READ) for _ in range(2)]
    rates = Rates(token=2, token_burst=5, address=1_000, address_burst=1_000)
    async with client_of(make_wire(app, [READ], rates=rates)) as client:
        statuses = [(await client.ask("GET", "/x/it", tokens[0])).status_code for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3
        refused = await client.ask("GET", "/x/it", tokens[0])
        assert (refused.headers["retry-after"], refused.json()["code"]) == ("1", "too_many_requests")
        assert (await client.ask("GET", "/x/it", tokens[1])).status_code == 200
        await clock.advance(0.5)
        assert [(await client.ask("GET", "/x/it", tokens[0])).status_code for _ in range(2)] == [200, 429]


async def test_a_burst_of_one_address_has_an_end(app: Conveyor) -> None:
    rates = Rates(token=1_000, token_burst=1_000, address=1, address_burst=3)
    wire = make_wire(app, [READ], rates=rates)
    async with client_of(wire) as client, client_of(wire, "10.0.0.9") as other:
        assert [(await client.ask("GET", "/x/it")).status_code for _ in range(4)] == [200] * 3 + [429]
        assert (await other.ask("GET", "/x/it")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "CROSS"}, 403),
        ({"origin": "http://127.0.0.1:8787"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "http://127.0.0.1:8787", "sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_a_page_of_another_site_changes_nothing(app: Conveyor, headers: dict[str, str], status: int) -> None:
    async with client_of(make_wire(app, [READ, CHANGE])) as client:
        assert (await client.ask("POST", "/x/it", headers=headers, json={})).status_code == status
        assert (await client.ask("GET", "/x/it", headers=headers)).status_code == 200


def test_a_handshake_is_checked_whatever_its_method() -> None:
    with pytest.raises(MisdirectedError):
        check_site("GET", {b"host": b"127.0.0.1", b"origin": b"http://evil.example"}, always=True)
    check_site("GET", {b"host": b"127.0.0.1", b"origin": b"http://127.0.0.1"}, always=True)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"])
async def test_what_a_form_could_send_is_no_json(app: Conveyor, kind: str) -> None:
    async with client_of(make_wire(app, [CHANGE])) as client:
        answer = await client.ask("POST", "/x/it", content=b"{}", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["code"]) == (415, "invalid_request")
        good = await client.ask("POST", "/x/it", content=b"{}", headers={"content-type": "application/json; charset=utf-8"})
        assert good.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/nothing", "/api/v1/nothing", "/client/v4/nothing", "/api/v1", "/"])
@pytest.mark.parametrize("token", [None, ADMIN])
async def test_every_answer_of_ours_has_the_safe_headers(app: Conveyor, path: str, token: str | None) -> None:
    async with serving(app) as client:
        answer = await client.ask("GET", path, token)
        https = await client.ask("GET", f"https://127.0.0.1{path}", token)
    if path in ("/", "/nothing", "/api/v1"):
        assert answer.status_code == 404, "nobody's"
        return
    for name, value in {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }.items():
        assert answer.headers[name] == value
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    if "nothing" in path:
        assert "max-age" in https.headers["strict-transport-security"]
        assert "strict-transport-security" not in answer.headers


async def test_a_wire_answers_to_no_strange_host(app: Conveyor) -> None:
    asgi = HostGuard(make_asgi(app, token=ADMIN), LOOPBACK)
    async with client_of(asgi) as client:
        assert (await client.ask("GET", "/api/v1/x", headers={"host": "evil.example"})).status_code == 421
        assert (await client.ask("GET", "/api/v1/x")).status_code == 404


async def raising(error: Exception) -> Any:
    async def handle(_call: Call) -> Answer:
        raise error

    return Endpoint(method="GET", path="/it", right=Right.READ, handle=handle, scope="store")


async def test_an_error_that_nobody_foresaw_says_nothing_but_its_id(app: Conveyor, events: list[Event]) -> None:
    async with client_of(make_wire(app, [await raising(ValueError("SELECT canary FROM /secret/path"))])) as client:
        answer = await client.ask("GET", "/x/it")
    assert answer.status_code == 500
    assert "canary" not in answer.text and "secret" not in answer.text and "Traceback" not in answer.text
    failed = next(event for event in events if isinstance(event, RequestFailed))
    assert answer.json()["request_id"] == failed.request_id == answer.headers["x-request-id"]
    assert (failed.endpoint, failed.error) == ("GET /it", "ValueError")
    assert "canary" not in repr(failed) and "test_gate.py" in failed.where


async def test_a_store_that_refuses_says_no_path(app: Conveyor) -> None:
    async with client_of(make_wire(app, [await raising(StoreFullError("/secret/store.db"))])) as client:
        answer = await client.ask("GET", "/x/it")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (507, "store_full", "1")
    assert "secret" not in answer.text


async def test_head_and_other_methods(app: Conveyor) -> None:
    async with client_of(make_wire(app, [READ])) as client:
        head = await client.ask("HEAD", "/x/it")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "6")
        wrong = await client.ask("DELETE", "/x/it")
        assert (wrong.status_code, wrong.json()["hint"]) == (405, "it takes GET")
        assert (await client.ask("DELETE", "/x/it", None)).status_code == 401, "first who it is"
        assert (await client.ask("GET", "/x/none", None)).status_code == 401
