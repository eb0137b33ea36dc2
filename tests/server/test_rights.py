"""The table of every route and every right, made from the routes themselves: a new one is in it by itself, and one that
declares no right is found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from msgspec.structs import replace

from conveyor import Conveyor
from conveyor.model.settings import ConsumerSettings, ConsumerType, QueueSettings
from conveyor.server.asgi import Site, make_asgi
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Caller, Right, held_by
from conveyor.server.wire import Wire
from conveyor.store.protocol import Store
from conveyor.testing.factories import a_draft
from kit.served import ADMIN, Client, a_token, client_of, make_wire

pytestmark = pytest.mark.anyio

# Whoever asks is served. Everything else names a right, or asks for any valid token.
PUBLIC: Final = {
    "GET /api/v1/openapi.json",
    "GET /api/v1/events/{ticket}",
    "GET /api/v1/jobs/{job}/stream/{ticket}",
    "GET /api/v1/objects/{bucket}",  # by a link, which is its own token
    "PUT /api/v1/objects/{bucket}",
}
ANY_TOKEN: Final = {
    "GET /client/v4/user",
    "GET /client/v4/user/tokens/verify",
    "GET /client/v4/accounts",
    "GET /client/v4/accounts/{account}",
    "GET /client/v4/accounts/{account}/tokens/verify",
    "GET /client/v4/memberships",
}
ACCOUNT: Final = "a" * 32
CHANGING: Final = {"POST", "PUT", "PATCH", "DELETE"}


def site_of(app: Conveyor) -> Site:
    return make_asgi(app, token=ADMIN)


def routes_of(site: Site) -> Iterator[tuple[Wire, Endpoint, str]]:
    for wire in site.wires:
        for endpoint in wire.endpoints:
            yield wire, endpoint, f"{endpoint.method} {wire.prefix}{endpoint.path}"


def path_of(wire: Wire, endpoint: Endpoint, **names: str) -> str:
    segments = endpoint.path.split("/")
    names = {"account": ACCOUNT} | names
    filled = [names.get(each.strip("{}").removesuffix(":path"), "x") if each.startswith("{") else each for each in segments]
    return wire.prefix + "/".join(filled)


def test_every_route_declares_its_right() -> None:
    found = list(routes_of(site_of(Conveyor("shop", url="memory://"))))
    assert len(found) > 60
    assert {name for _, each, name in found if each.right is None and each.scope != "token"} == PUBLIC
    assert {name for _, each, name in found if each.right is None and each.scope == "token"} == ANY_TOKEN
    assert {each.scope for _, each, _ in found} == {"queue", "store", "token", "job"}
    assert not [name for _, each, name in found if each.scope == "token" and each.right is not None]


def test_changes_need_more_than_a_look() -> None:
    looks = {  # what is asked for in a body, or in a moment
        "POST /client/v4/accounts/{account}/queues/{queue}/messages/peek",
        "POST /client/v4/accounts/{account}/storage/kv/namespaces/{namespace}/bulk/get",
        "POST /api/v1/tickets",
        "POST /api/v1/jobs/{job}/tickets",
        "POST /client/v4/graphql",
        "PUT /api/v1/objects/{bucket}",  # the link is its own right
    }
    for _, endpoint, name in routes_of(site_of(Conveyor("shop", url="memory://"))):
        if endpoint.method in CHANGING:
            assert name in looks or endpoint.right in (Right.SEND, Right.CONSUME, Right.MANAGE, Right.ADMIN), name
        else:
            assert endpoint.method == "GET" and endpoint.right in (Right.READ, Right.ADMIN, None), name


def test_every_change_of_what_is_managed_has_a_name_in_the_audit_trail() -> None:
    for _, endpoint, name in routes_of(site_of(Conveyor("shop", url="memory://"))):
        if endpoint.method in CHANGING and endpoint.right in (Right.MANAGE, Right.ADMIN):
            assert endpoint.action, name


async def test_the_table_has_no_wrong_cell(app: Conveyor) -> None:
    """Behind every route stands a stub, so that only the gate decides."""
    came: list[Caller] = []

    async def stub(call: Call) -> Answer:
        came.append(call.caller)
        return Answer.json("in")

    callers: dict[str, tuple[frozenset[Right], bool, str | None]] = {"nobody": (frozenset(), True, None)}
    for right in Right:
        callers[right] = (held_by(frozenset({right})), True, await a_token(app, right))
        if right is not Right.ADMIN:
            callers[f"{right} of some"] = (held_by(frozenset({right})), False, await a_token(app, right, queues=("*",)))
    wrong, cells = [], 0
    for wire, endpoint, name in routes_of(site_of(app)):
        alone = make_wire(app, [replace(endpoint, handle=stub, action=None)], prefix=wire.prefix)
        async with client_of(alone) as client:
            for who, (held, whole, token) in callers.items():
                came.clear()
                answer = await client.ask(endpoint.method, path_of(wire, endpoint), token)
                if endpoint.right is None:
                    wanted = endpoint.scope != "token" or token is not None
                else:
                    wanted = endpoint.right in held and (whole or endpoint.scope == "queue")
                is_in = answer.status_code == 200 and len(came) == 1
                is_out = answer.status_code == (401 if token is None else 403) and not came
                cells += 1
                if not (is_in if wanted else is_out):
                    wrong.append((name, who, answer.status_code))
    assert wrong == []
    assert cells >= 60 * 10


# The real handlers, and a token for other queues


@pytest.fixture
async def store(app: Conveyor) -> Store:
    for name in ("hidden", "hidden-dlq", "mine"):
        await app.store.create_queue(name, QueueSettings())
        await app.store.append([a_draft(queue=name, body=b'"canary-of-hidden"')])
    consumer = ConsumerSettings(type=ConsumerType.HTTP_PULL, dead_letter_queue="hidden-dlq")
    await app.store.put_consumer("hidden", consumer)
    return app.store


@pytest.fixture
async def client(app: Conveyor, store: Store) -> AsyncIterator[Client]:
    site = site_of(app)
    async with site.router.lifespan_context(site), client_of(site) as client:
        yield client


async def ids_of(client: Client) -> dict[str, str]:
    """Cloudflare's ids of the queues."""
    answer = await client.ask("GET", f"/client/v4/accounts/{ACCOUNT}/queues")
    return {each["queue_name"]: each["queue_id"] for each in answer.json()["result"]}


async def test_another_queue_is_the_same_as_none(app: Conveyor, client: Client) -> None:
    rights = [Right.SEND, Right.CONSUME, Right.MANAGE]
    token = await a_token(app, *rights, queues=("mine*",))
    hidden = (await ids_of(client))["hidden"]
    before = await app.store.peek("hidden", limit=9), await app.store.get_queue("hidden")
    asked = 0
    for wire, endpoint, name in routes_of(site_of(app)):
        if "{queue}" not in endpoint.path or endpoint.scope != "queue":
            continue
        is_theirs = wire.prefix == "/client/v4"
        there, absent = (hidden, "0" * len(hidden)) if is_theirs else ("hidden", "absent")
        body: dict[str, Any] = {"json": {}} if endpoint.method in CHANGING else {}
        answers = [
            await client.ask(endpoint.method, path_of(wire, endpoint, queue=queue), token, **body)
            for queue in (there, absent)
        ]
        asked += 1
        assert answers[0].status_code == answers[1].status_code != 200, (name, [each.text for each in answers])
        assert answers[0].status_code < 500, name
        said = [answer.text.replace(queue, "Q") for answer, queue in zip(answers, (there, absent), strict=True)]
        marks = [answer.headers["x-request-id"] for answer in answers]
        assert said[0].replace(marks[0], "") == said[1].replace(marks[1], ""), name
    assert asked >= 30
    assert (await app.store.peek("hidden", limit=9), await app.store.get_queue("hidden")) == before


async def test_no_list_shows_another_queue(app: Conveyor, client: Client) -> None:
    token = await a_token(app, Right.MANAGE, queues=("mine*",))
    for path in ("/api/v1/queues", "/api/v1/dead-letters", f"/client/v4/accounts/{ACCOUNT}/queues"):
        answer = await client.ask("GET", path, token)
        assert answer.status_code == 200, (path, answer.text)
        assert "hidden" not in answer.text, path
        assert "hidden" in (await client.ask("GET", path)).text, path
    sums = [(await client.ask("GET", "/api/v1/stats", each)).json()["queues"] for each in (token, ADMIN)]
    assert sums == [1, 4], "jobs, hidden, its dead letters, and mine"


async def test_a_queue_that_the_token_does_not_reach_is_not_made(app: Conveyor, client: Client) -> None:
    token = await a_token(app, Right.MANAGE, queues=("mine*",))
    for path, body in (("/api/v1/queues", {"name": "other"}), (f"/client/v4/accounts/{ACCOUNT}/queues", {"queue_name": "other"})):
        answer = await client.ask("POST", path, token, json=body)
        assert answer.status_code in (403, 404), answer.text
    assert "other" not in [each.name for each in await app.store.list_queues()]
    for path, body in (("/api/v1/queues", {"name": "mine-a"}), (f"/client/v4/accounts/{ACCOUNT}/queues", {"queue_name": "mine-b"})):
        assert (await client.ask("POST", path, token, json=body)).status_code in (200, 201)


NAMES: Final = ("queue", "consumer", "namespace", "key", "schedule", "message", "token", "subscription")
PLACES: Final = ("x", "%00", "%FF", "%F0%9F%98%80", "..%2F..%2Fetc", "x" * 2_000, "'%20OR%201=1--")
BODIES: Final = (b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"body":' + b"[" * 5_000, b"\xff\xfe", b'{"x":1}', b"9" * 5_000)
QUERIES: Final = ("", "?limit=x&page=-1&per_page=99999999999999999999&after=%00&cursor=%FF", "?" + "a=b&" * 300)


async def test_malformed_requests_to_every_route_are_nobodys_fault_but_theirs(app: Conveyor, client: Client) -> None:
    """0 answers of 5xx, whatever stands in the body, the query and the path."""
    queue = (await ids_of(client))["mine"]
    for wire, endpoint, name in routes_of(site_of(app)):
        if "events" in endpoint.path.split("/"):
            continue  # a stream does not end
        tries = [(place, b"{}") for place in PLACES] + [(queue, body) for body in BODIES] + [("mine", body) for body in BODIES]
        for number, (place, body) in enumerate(tries if endpoint.method in CHANGING else tries[: len(PLACES) + 1]):
            path = path_of(wire, endpoint, **dict.fromkeys(NAMES, place))
            answer = await client.ask(endpoint.method, path + QUERIES[number % 3], content=body)
            assert answer.status_code < 500, (name, path, body[:40], answer.text)
        if name.startswith("DELETE") and "mine" not in [each.name for each in await app.store.list_queues()]:
            await app.store.create_queue("mine", QueueSettings())
