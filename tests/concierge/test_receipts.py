"""What providers tell later: signed, taken in once, and made one kind of receipt."""

import base64
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette

from conveyor import Conveyor
from conveyor.testing import Harness
from conveyor_apps.concierge.providers import Receipt
from conveyor_apps.concierge.providers.opening import RESEND_PATH, TWILIO_PATH, new_providers
from conveyor_apps.concierge.providers.receipts import declare_receipts
from conveyor_apps.concierge.providers.resend import read_event, tag_of
from conveyor_apps.concierge.providers.twilio import is_signed, sign_callback
from conveyor_apps.concierge.settings import DeskSettings, ProviderSettings, Settings
from conveyor_apps.concierge.words import State
from conveyor_apps.sandbox.post.courier import svix_call, twilio_call
from conveyor_apps.secret import Secret

from .posting import TOKEN, PostOffice, email_to, open_post_office, text_to

pytestmark = pytest.mark.anyio

PUBLIC = "https://concierge.test"
SID = "SM" + "0" * 32
SECRET = "whsec_" + base64.b64encode(b"a secret of some 32 bytes, really").decode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostOffice]:
    with open_post_office(tmp_path_factory.mktemp("post")) as office:
        yield office


class Desk:
    """An app with the ways in, and what came by them."""

    def __init__(self, settings: Settings) -> None:
        self.app = Conveyor("desk", url="memory://")
        self.kept: list[Receipt] = []
        self.asgi = Starlette(routes=declare_receipts(self.app, settings, self._keep))

    async def _keep(self, receipt: Receipt) -> None:
        self.kept.append(receipt)

    async def post(self, path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> int:
        transport = httpx2.ASGITransport(self.asgi)
        async with httpx2.AsyncClient(transport=transport, base_url="http://inside", verify=False) as client:
            return (await client.request(method, path, content=body, headers=headers)).status_code


@asynccontextmanager
async def open_desk(public_url: str = PUBLIC) -> AsyncIterator[tuple[Desk, Harness]]:
    providers = ProviderSettings(twilio_token=Secret(TOKEN), resend_webhook_secret=Secret(SECRET))
    desk = Desk(Settings(desk=DeskSettings(public_url=public_url), providers=providers))
    async with desk.app.testing() as kit:
        await kit.travel(now_s() - kit.clock.now_ms() / 1000)  # signatures bear the world's time
        yield desk, kit


def now_s() -> float:
    return parsedate_to_datetime(formatdate()).timestamp()


def callback(status: str, code: str = "", *, token: str = TOKEN, url: str = f"{PUBLIC}{TWILIO_PATH}?message=m1") -> Any:
    fields = {"MessageSid": SID, "MessageStatus": status, "To": "+491701234567"}
    return twilio_call(url, {**fields, "ErrorCode": code} if code else fields, token=token)


async def call_back(desk: Desk, call: Any, **changes: str) -> int:
    return await desk.post(f"{TWILIO_PATH}?message=m1", call.body, {**call.headers, **changes})


# Twilio


async def test_a_signature_is_the_one_that_twilio_documents() -> None:
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    fields = {"CallSid": "CA1234567890ABCDE", "Caller": "+14158675309", "Digits": "1234", "From": "+14158675309"}
    pairs = [*fields.items(), ("To", "+18005551212")]
    assert sign_callback(url, pairs, "12345") == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert is_signed(url, pairs, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", "12345")
    assert not is_signed(url, [], sign_callback(url, [], ""), "")  # an empty token signs nothing


async def test_a_signature_is_the_one_that_twilios_own_validator_makes() -> None:
    from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]  # it has no types

    url, fields = "https://a.test/x?y=1", {"B": "2 ä", "A": "", "b": "3"}
    assert sign_callback(url, list(fields.items()), "t") == RequestValidator("t").compute_signature(url, fields)


@pytest.mark.parametrize(
    ("status", "code", "state", "again_after_s"),
    [
        ("delivered", "", State.DELIVERED, None),
        ("undelivered", "30005", State.BOUNCED, None),
        ("undelivered", "30004", State.BOUNCED, None),
        ("undelivered", "30003", State.FAILED, 1_800.0),
        ("failed", "30001", State.FAILED, 60.0),
        ("undelivered", "30022", State.FAILED, 60.0),
        ("failed", "12345", State.FAILED, None),
    ],
)
async def test_a_callback_becomes_a_receipt(status: str, code: str, state: State, again_after_s: float | None) -> None:
    async with open_desk() as (desk, kit):
        assert await call_back(desk, callback(status, code)) == 204
        await kit.drain()
    detail = f"{status} {code}" if code else ""
    expected = Receipt(
        provider="twilio", reference=SID, state=state, detail=detail, code=code, message_id="m1",
        is_lasting=code == "30005", again_after_s=again_after_s,
    )  # fmt: skip
    assert desk.kept == [expected]


async def test_callbacks_that_are_not_signed_for_our_address_are_refused() -> None:
    good = callback("delivered")
    cases = {
        "another token": callback("delivered", token="other"),  # noqa: S106  # the test's own
        "another address": callback("delivered", url=f"https://evil.test{TWILIO_PATH}?message=m1"),
        "another message": callback("delivered", url=f"{PUBLIC}{TWILIO_PATH}?message=m2"),
    }
    async with open_desk() as (desk, kit):
        for call in cases.values():
            assert await call_back(desk, call) == 401
        assert await call_back(desk, good, **{"x-twilio-signature": ""}) == 401
        assert await call_back(desk, good, **{"x-twilio-signature": "not base64"}) == 401
        for body in (good.body + b"&X=1", b"", b"\xff", b"%", b"a=1&" * 200, b"x=" + b"y" * 70_000):
            assert await desk.post(f"{TWILIO_PATH}?message=m1", body, dict(good.headers)) == 401
        assert await desk.post(f"{TWILIO_PATH}?message=m1", b"", {}, "GET") == 405
        await kit.drain()
    assert desk.kept == []


async def test_a_callback_that_comes_again_is_taken_once_and_those_before_the_end_are_not_kept() -> None:
    async with open_desk() as (desk, kit):
        for status in ("queued", "sent", "delivered", "delivered"):
            assert await call_back(desk, callback(status)) == 204
        await kit.drain()
        assert await call_back(desk, callback("delivered")) == 204
        await kit.drain()
    assert [each.state for each in desk.kept] == [State.DELIVERED]


async def test_something_else_that_is_signed_is_passed_over() -> None:
    url = f"{PUBLIC}{TWILIO_PATH}?message=m1"
    fields = {"MessageSid": "../etc", "MessageStatus": "delivered"}
    async with open_desk() as (desk, kit):
        assert await call_back(desk, twilio_call(url, fields, token=TOKEN)) == 204
        await kit.drain()
    assert desk.kept == []


# Resend


def event(kind: str, data: dict[str, Any], *, id: str = "msg_1", secret: str = SECRET) -> Any:
    body = msgspec.json.encode({"type": kind, "created_at": "2026-11-22T12:00:00Z", "data": data})
    return svix_call("", secret, call_id=id, event=kind, about="", body=body)


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("email.delivered", {}, Receipt(provider="resend", reference="e1", state=State.DELIVERED, detail="delivered")),
        (
            "email.bounced",
            {"bounce": {"type": "Permanent", "subType": "Suppressed", "message": "b@x.test is no more"}},
            Receipt(
                provider="resend", reference="e1", state=State.BOUNCED, detail="bounced Suppressed", code="Suppressed",
                is_lasting=True,
            ),
        ),
        (
            "email.complained",
            {},
            Receipt(
                provider="resend", reference="e1", state=State.DELIVERED, detail="complained", is_complaint=True
            ),
        ),
        (
            "email.bounced",
            {"bounce": {"type": "Transient", "subType": "MailboxFull"}},
            Receipt(
                provider="resend", reference="e1", state=State.BOUNCED, detail="bounced MailboxFull", code="MailboxFull"
            ),
        ),
        ("email.failed", {}, Receipt(provider="resend", reference="e1", state=State.FAILED, detail="failed")),
    ],
)
async def test_an_event_becomes_a_receipt(kind: str, more: dict[str, Any], expected: Receipt) -> None:
    call = event(kind, {"email_id": "e1", "to": ["b@x.test"], "tags": {"message_id": tag_of("m.1:ä")}, **more})
    async with open_desk() as (desk, kit):
        assert await desk.post(RESEND_PATH, call.body, dict(call.headers)) == 202
        await kit.drain()
    assert desk.kept == [replace(expected, message_id="m.1:ä")]


async def test_events_that_are_forged_stale_or_come_again_are_not_kept() -> None:
    data = {"email_id": "e1"}
    good = event("email.delivered", data)
    stale = {**good.headers, "svix-timestamp": str(int(good.headers["svix-timestamp"]) - 3_600)}
    renamed = {name.replace("svix-", "webhook-"): value for name, value in good.headers.items()}
    other = "whsec_" + base64.b64encode(b"another secret of some 32 bytes").decode()
    forged = event("email.delivered", data, secret=other)
    async with open_desk() as (desk, kit):
        for headers in (stale, renamed, dict(forged.headers), {}):
            assert await desk.post(RESEND_PATH, good.body, dict(headers)) == 401
        assert await desk.post(RESEND_PATH, good.body + b" ", dict(good.headers)) == 401
        assert await desk.post(RESEND_PATH, b"", {}, "GET") == 405
        for _ in range(3):
            assert await desk.post(RESEND_PATH, good.body, dict(good.headers)) == 202
        opened = event("email.opened", data, id="msg_2")
        assert await desk.post(RESEND_PATH, opened.body, dict(opened.headers)) == 202
        await kit.drain()
    assert [each.reference for each in desk.kept] == ["e1"]


async def test_an_event_in_another_shape_says_nothing() -> None:
    assert read_event(b'{"type": "email.bounced", "data": {}}') is None
    assert read_event(b'{"type": "contact.created", "data": {"email_id": "e"}}') is None
    tagged = b'{"type": "email.delivered", "data": {"email_id": "e", "tags": [{"name": "message_id", "value": "6d"}]}}'
    found = read_event(tagged)
    assert found is not None
    assert found.message_id == "m"
    with pytest.raises(ValueError, match="no event"):
        read_event(b"[]")


async def test_without_secrets_there_are_no_ways_in() -> None:
    app = Conveyor("closed", url="memory://")
    assert declare_receipts(app, Settings(), Desk(Settings())._keep) == []


# From the sandbox, by real HTTP


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, asgi: Any) -> None:
        super().__init__(uvicorn.Config(asgi, log_level="warning", lifespan="off", port=0, timeout_graceful_shutdown=1))
        self.listening = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@asynccontextmanager
async def serve(asgi: Any) -> AsyncIterator[Server]:
    import anyio

    server = Server(asgi)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # no signals here
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server._serve)
        while not server.listening.is_set():
            await anyio.sleep(0.01)
        try:
            yield server
        finally:
            server.should_exit = True


def taken_from(office: PostOffice, reference: str) -> list[str]:
    """What the sandbox has told of a message, and somebody took."""
    told = office.http.get("/admin/receipts").json()["told"]
    return [each["event"] for each in told if each["about"] == reference and each["is_taken"]]


async def test_what_the_sandbox_tells_comes_in(office: PostOffice, tmp_path: Path) -> None:
    import anyio

    office.calm()
    office.strike("twilio", {"fate": "failed", "code": "30003"})
    office.strike("resend", {"fate": "bounced", "code": "General"})
    providers = replace(
        office.settings.providers, resend_webhook_secret=Secret(SECRET), order=("resend", "twilio")
    )
    gate: dict[str, Any] = {}

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await gate["asgi"](scope, receive, send)

    async with serve(behind) as server:
        public_url = f"http://127.0.0.1:{server.port}"
        settings = Settings(data=tmp_path, desk=DeskSettings(public_url=public_url), providers=providers)
        desk = Desk(settings)
        gate["asgi"] = desk.asgi
        async with desk.app.testing() as kit:
            await kit.travel(now_s() - kit.clock.now_ms() / 1000)
            office.http.put("/admin/hooks/resend", json={"url": public_url + RESEND_PATH, "secret": SECRET})
            resend, twilio = new_providers(settings)
            try:
                mail = await resend.send(email_to("b@x.test"))
                text = await twilio.send(text_to())
            finally:
                await resend.close()
                await twilio.close()
            while len(taken_from(office, mail.reference)) < 2 or len(taken_from(office, text.reference)) < 2:
                await anyio.sleep(0.02)
            await kit.drain()
    found = {each.reference: each for each in desk.kept}
    assert (found[mail.reference].state, found[mail.reference].message_id) == (State.BOUNCED, "m1")
    assert (found[text.reference].code, found[text.reference].again_after_s) == ("30003", 1_800.0)
