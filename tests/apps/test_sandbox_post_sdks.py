"""The official SDKs of Twilio and Resend against a sandbox, and what they make of its signatures."""

import base64
import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest

from conveyor_apps.sandbox import SandboxSettings, serving

SECRET = "whsec_" + base64.b64encode(b"a secret of some 32 bytes, really").decode()


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving(SandboxSettings(receipt_delay_ms=0)) as url:
        yield url


class Receiver:
    """Takes POSTs on loopback, and hands them out one by one."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self._came = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver._came:
                    receiver.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    receiver._came.notify_all()
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/told?message=m%2F1"

    def wait_for(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.taken) >= count, timeout=60)
            return self.taken[:count]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


@pytest.fixture
def twilio(base: str) -> Any:
    from twilio.rest import Client  # type: ignore[import-untyped]  # it has no types

    client = Client("AC" + "1" * 32, "token")
    client.api.base_url = f"{base}/twilio"
    return client


@pytest.fixture
def resend(base: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import resend

    monkeypatch.setattr(resend, "api_url", f"{base}/resend")
    monkeypatch.setattr(resend, "api_key", "re_1")
    return resend


def test_twilio_sdk_sends_and_finds_texts(twilio: Any) -> None:
    sent = twilio.messages.create(to="+491701234567", from_="+15005550006", body="Come at 10.")
    assert sent.sid.startswith("SM")
    assert sent.num_segments == "1"
    found = twilio.messages(sent.sid).fetch()
    assert (found.to, found.body, found.direction) == ("+491701234567", "Come at 10.", "outbound-api")
    assert found.date_created is not None
    assert [each.sid for each in twilio.messages.list(to="+491701234567", limit=5)] == [sent.sid]


@pytest.mark.parametrize(("code", "status"), [(21211, 400), (21610, 400), (20429, 429), (20500, 500)])
def test_twilio_sdk_raises_its_own_error(base: str, twilio: Any, code: int, status: int) -> None:
    from twilio.base.exceptions import TwilioRestException  # type: ignore[import-untyped]  # it has no types

    httpx2.put(f"{base}/admin/mishaps/twilio", json=[{"refuse": code, "times": 1}], timeout=60).raise_for_status()
    with pytest.raises(TwilioRestException) as caught:
        twilio.messages.create(to="+491701234567", from_="+15005550006", body="x")
    assert (caught.value.code, caught.value.status) == (code, status)


def test_twilio_sdk_verifies_the_callbacks_of_a_text(base: str, twilio: Any) -> None:
    from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]  # it has no types

    mishap = {"recipient": "+49*", "fate": "bounced", "code": "30005", "times": 1}
    httpx2.put(f"{base}/admin/mishaps/twilio", json=[mishap], timeout=60).raise_for_status()
    with receiving() as receiver:
        sent = twilio.messages.create(
            to="+491701234567", from_="+15005550006", body="x", status_callback=receiver.url
        )
        told = receiver.wait_for(2)
    forms = [dict(parse_qsl(body.decode())) for _, body in told]
    assert [form["MessageStatus"] for form in forms] == ["sent", "undelivered"]
    assert forms[1]["ErrorCode"] == "30005"
    assert {form["MessageSid"] for form in forms} == {sent.sid}
    for (headers, _), form in zip(told, forms, strict=True):
        assert RequestValidator("token").validate(receiver.url, form, headers["x-twilio-signature"])
        assert not RequestValidator("other").validate(receiver.url, form, headers["x-twilio-signature"])


def test_resend_sdk_sends_once_by_a_key(resend: Any) -> None:
    mail = {"from": "a@x.test", "to": "b@x.test", "subject": "Hello", "html": "<b>x</b>"}
    first = resend.Emails.send(mail, {"idempotency_key": "k1"})
    again = resend.Emails.send(mail, {"idempotency_key": "k1"})
    assert first["id"] == again["id"]
    assert resend.Emails.get(first["id"])["subject"] == "Hello"
    batch = resend.Batch.send([mail, mail])
    assert len({each["id"] for each in batch["data"]}) == 2


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (422, "validation_error", "ValidationError"),
        (429, "rate_limit_exceeded", "RateLimitError"),
        (500, "application_error", "ApplicationError"),
    ],
)
def test_resend_sdk_raises_its_own_error(base: str, resend: Any, status: int, name: str, error: str) -> None:
    httpx2.put(f"{base}/admin/mishaps/resend", json=[{"refuse": status, "name": name, "times": 1}], timeout=60).raise_for_status()
    with pytest.raises(resend.exceptions.ResendError) as caught:
        resend.Emails.send({"from": "a@x.test", "to": "b@x.test", "subject": "Hello", "text": "x"})
    assert type(caught.value).__name__ == error


def test_resend_sdk_verifies_events(base: str, resend: Any) -> None:
    with receiving() as receiver:
        hook = {"url": receiver.url, "secret": SECRET}
        httpx2.put(f"{base}/admin/hooks/resend", json=hook, timeout=60).raise_for_status()
        mishap = {"fate": "bounced", "code": "Suppressed", "times": 1}
        httpx2.put(f"{base}/admin/mishaps/resend", json=[mishap], timeout=60).raise_for_status()
        tags = [{"name": "kind", "value": "test"}]
        mail = {"from": "a@x.test", "to": "b@x.test", "subject": "Hello", "text": "x", "tags": tags}
        sent = resend.Emails.send(mail)
        told = receiver.wait_for(2)
        complaint = {"provider": "resend", "id": sent["id"], "fate": "complained"}
        httpx2.post(f"{base}/admin/receipts", json=complaint, timeout=60).raise_for_status()
        told = receiver.wait_for(3)
    events = []
    for headers, body in told:
        signed = {"id": headers["svix-id"], "timestamp": headers["svix-timestamp"], "signature": headers["svix-signature"]}
        events.append(
            resend.Webhooks.verify({"payload": body.decode(), "headers": signed, "webhook_secret": SECRET})
        )
    assert [each["type"] for each in events] == ["email.sent", "email.bounced", "email.complained"]
    assert events[1]["data"]["bounce"]["subType"] == "Suppressed"
    assert events[1]["data"]["tags"] == {"kind": "test"}
    assert {each["data"]["email_id"] for each in events} == {sent["id"]}
