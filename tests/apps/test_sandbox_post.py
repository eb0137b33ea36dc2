"""The sandbox's mail server, its inbox, Twilio's and Resend's HTTP, by clients that know nothing of it."""

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any, cast

import aiosmtplib
import httpx2
import pytest

from conveyor_apps.sandbox import SandboxSettings, serving
from conveyor_apps.sandbox.errors import SandboxPortError, SandboxSettingError

SCRIPT = "<script>alert(1)</script>"
TEXTS = "/twilio/2010-04-01/Accounts/AC1/Messages.json"
TEXT = {"To": "+491701234567", "From": "+15005550006", "Body": "Come at 10."}
MAIL = {"from": "a@x.test", "to": ["b@x.test"], "subject": "Hello", "text": "Come."}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving(SandboxSettings(smtp_port=0, receipt_delay_ms=0)) as url:
        yield url


@pytest.fixture(scope="module")
def client(base: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=base, timeout=60) as client:
        yield client


@pytest.fixture
def http(client: httpx2.Client) -> Iterator[httpx2.Client]:
    yield client
    client.delete("/admin/accepted").raise_for_status()
    for name in ("smtp", "resend", "twilio"):
        client.delete(f"/admin/mishaps/{name}").raise_for_status()


def strike(http: httpx2.Client, provider: str, *mishaps: dict[str, Any]) -> None:
    http.put(f"/admin/mishaps/{provider}", json=list(mishaps)).raise_for_status()


def send(http: httpx2.Client, to: str, *, tls: bool = False, key: str = "any") -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"], mail["Message-ID"] = "a@x.test", to, f"Hi {SCRIPT}", "<1@x.test>"
    mail.set_content(f"Grüße {SCRIPT}\n")
    mail.add_alternative(f"<p>{SCRIPT}</p>", subtype="html")
    smtp = http.get("/admin/mail").json()["smtp"]
    context = ssl.create_default_context(cadata=http.get("/admin/ca.pem").text)
    client = Client(
        hostname=smtp["host"], port=smtp["tls" if tls else "starttls"], use_tls=tls, start_tls=not tls,
        username="user", password=key, tls_context=context, timeout=30,
    )  # fmt: skip

    async def hand_in() -> None:
        try:
            await client.connect()
            await client.send_message(mail)
        finally:
            await hang_up(client)

    asyncio.run(hand_in())


class Client(aiosmtplib.SMTP):
    """Hangs up at once: a TLS connection that is closed politely outlives its loop."""

    def close(self) -> None:
        transport = self.transport
        super().close()
        if transport is not None:
            cast("asyncio.WriteTransport", transport).abort()


async def hang_up(client: aiosmtplib.SMTP) -> None:
    """What is closed is so when the loop has turned."""
    client.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def accepted(http: httpx2.Client) -> Any:
    return http.get("/admin/accepted").json()


def text(http: httpx2.Client, key: str = "any", **changes: str) -> httpx2.Response:
    return http.post(TEXTS, data={**TEXT, **changes}, auth=("AC1", key))


def mail(http: httpx2.Client, key: str | None = None, **changes: Any) -> httpx2.Response:
    headers = {"authorization": "Bearer re_1"} | ({"idempotency-key": key} if key else {})
    return http.post("/resend/emails", json={**MAIL, **changes}, headers=headers)


# SMTP


@pytest.mark.parametrize("tls", [False, True])
def test_mail_is_taken_over_tls_and_shown_without_being_rendered(http: httpx2.Client, tls: bool) -> None:
    send(http, "b@x.test", tls=tls)
    [row] = http.get("/inbox.json").json()["messages"]
    assert (row["recipients"], row["reference"], row["is_answered"]) == (["b@x.test"], "<1@x.test>", True)
    for path in ("/inbox", f"/inbox/{row['number']}"):
        page = http.get(path)
        assert SCRIPT not in page.text
        assert "&lt;script&gt;" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
    shown = http.get(f"/inbox/{row['number']}.json").json()
    assert (shown["text"].strip(), shown["html"].strip()) == (f"Grüße {SCRIPT}", f"<p>{SCRIPT}</p>")
    raw = http.get(f"/inbox/{row['number']}.eml")
    assert raw.headers["content-disposition"].startswith("attachment")
    assert b"Message-ID: <1@x.test>" in raw.content
    assert http.get("/inbox/999999").status_code == 404


@pytest.mark.parametrize(("code", "moment"), [(550, "rcpt"), (452, "rcpt"), (451, "data"), (554, "data")])
def test_a_recipient_is_refused_with_the_code_that_was_set(http: httpx2.Client, code: int, moment: str) -> None:
    strike(http, "smtp", {"recipient": "no*@x.test", "refuse": code, "moment": moment})
    with pytest.raises(aiosmtplib.SMTPException) as caught:
        send(http, "nobody@x.test")
    found = getattr(caught.value, "recipients", [caught.value])[0]
    assert found.code == code
    assert accepted(http)["counts"]["smtp"] == 0
    send(http, "b@x.test")
    assert accepted(http)["counts"]["smtp"] == 1


def test_a_mail_that_was_taken_and_never_answered_is_there_and_its_copy_is_a_duplicate(http: httpx2.Client) -> None:
    strike(http, "smtp", {"drop": True, "times": 1})
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        send(http, "b@x.test")
    send(http, "b@x.test")
    found = accepted(http)
    assert [each["is_answered"] for each in found["accepted"]] == [False, True]
    assert found["duplicates"]["smtp"] == {"<1@x.test>": 2}


def test_nobody_mails_without_a_login(http: httpx2.Client) -> None:
    with pytest.raises(aiosmtplib.SMTPAuthenticationError):
        send(http, "b@x.test", key="wrong-key")

    async def write_in_the_open() -> int:
        smtp = http.get("/admin/mail").json()["smtp"]
        client = Client(hostname=smtp["host"], port=smtp["starttls"], start_tls=False)
        try:
            await client.connect()
            return (await client.execute_command(b"MAIL", b"FROM:<a@x.test>")).code
        finally:
            await hang_up(client)

    assert asyncio.run(write_in_the_open()) == 530


def test_mishaps_strike_every_nth_and_unknown_names_are_refused(http: httpx2.Client) -> None:
    strike(http, "twilio", {"recipient": "+49*", "refuse": 21610, "every": 2})
    assert [text(http).status_code for _ in range(4)] == [201, 400, 201, 400]
    answer = http.put("/admin/mishaps/smtp", json=[{"refuse": 550, "recipients": "x"}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "sandbox_setting_invalid")
    assert http.put("/admin/mishaps/pigeon", json=[]).status_code == 400


# Twilio


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"To": "123"}, 21211),
        ({"To": ""}, 21604),
        ({"From": ""}, 21603),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1_601}, 21617),
        ({"StatusCallback": "https://evil.example/"}, 21609),
    ],
)
def test_twilio_says_what_is_wrong_by_its_codes(http: httpx2.Client, changes: dict[str, str], code: int) -> None:
    answer = text(http, **changes)
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (400, code, 400)
    assert accepted(http)["counts"]["twilio"] == 0


def test_twilio_takes_a_text_and_finds_it_again(http: httpx2.Client) -> None:
    taken = text(http)
    assert (taken.status_code, taken.json()["status"]) == (201, "delivered")  # in no time
    sid = taken.json()["sid"]
    assert http.get(f"/twilio/2010-04-01/Accounts/AC1/Messages/{sid}.json", auth=("AC1", "t")).json()["sid"] == sid
    listed = http.get(TEXTS, params={"To": TEXT["To"]}, auth=("AC1", "t")).json()["messages"]
    assert [each["sid"] for each in listed] == [sid]
    assert http.get(TEXTS, params={"To": "+490"}, auth=("AC1", "t")).json()["messages"] == []
    assert http.get(TEXTS.replace("AC1", "AC2"), auth=("AC2", "t")).json()["messages"] == []
    wrong = text(http, key="wrong-key")
    assert (wrong.status_code, wrong.json()["code"]) == (401, 20003)


def test_a_text_that_was_taken_and_never_answered_is_there(http: httpx2.Client) -> None:
    strike(http, "twilio", {"drop": True})
    with pytest.raises(httpx2.RemoteProtocolError):
        text(http)
    assert [each["is_answered"] for each in accepted(http)["accepted"]] == [False]


# Resend


def test_resend_answers_the_same_key_alike_for_a_day_and_sends_once(http: httpx2.Client) -> None:
    first, again = mail(http, "k1"), mail(http, "k1")
    assert first.json() == again.json()
    other = mail(http, "k1", subject="Another")
    assert (other.status_code, other.json()["name"]) == (409, "invalid_idempotent_request")
    assert accepted(http)["counts"]["resend"] == 1
    http.post("/admin/clock", json={"advance_s": 86_401}).raise_for_status()
    assert mail(http, "k1").json() != first.json()
    assert accepted(http)["duplicates"]["resend"] == {"k1": 2}


def test_resend_takes_a_batch_and_refuses_by_its_names(http: httpx2.Client) -> None:
    headers = {"authorization": "Bearer re_1"}
    batch = http.post("/resend/emails/batch", json=[MAIL, {**MAIL, "to": "c@x.test"}], headers=headers)
    ids = [each["id"] for each in batch.json()["data"]]
    assert http.get(f"/resend/emails/{ids[1]}", headers=headers).json()["to"] == ["c@x.test"]
    assert (mail(http, to=["not an address"]).json()["name"]) == "validation_error"
    assert (mail(http, subject="").json()["name"]) == "missing_required_field"
    strike(http, "resend", {"refuse": 429, "name": "daily_quota_exceeded"})
    limited = mail(http)
    assert (limited.status_code, limited.json()["name"]) == (429, "daily_quota_exceeded")
    assert limited.headers["retry-after"] == "1"


def test_resend_keeps_what_it_never_answered_under_its_key(http: httpx2.Client) -> None:
    strike(http, "resend", {"drop": True, "times": 1})
    with pytest.raises(httpx2.RemoteProtocolError):
        mail(http, "k2")
    assert mail(http, "k2").status_code == 200
    assert accepted(http)["counts"]["resend"] == 1


# The side door


def test_the_side_door_posts_to_this_machine_alone_and_knows_what_it_is_told_of(http: httpx2.Client) -> None:
    away = http.put("/admin/hooks/resend", json={"url": "http://10.0.0.1/", "secret": "whsec_x"})
    unknown = http.post("/admin/receipts", json={"provider": "twilio", "id": "SM0", "fate": "failed"})
    nonsense = http.post("/admin/receipts", json={"provider": "smtp", "id": "1", "fate": "bounced"})
    assert [each.status_code for each in (away, unknown, nonsense)] == [400, 400, 400]


def test_without_a_port_there_is_no_mail_server() -> None:
    with serving(SandboxSettings()) as url:
        assert httpx2.get(f"{url}/admin/mail", timeout=60).json()["smtp"] is None
        assert httpx2.get(f"{url}/admin/ca.pem", timeout=60).status_code == 404
    with pytest.raises(SandboxSettingError):
        SandboxSettings(smtp_port=70_000)


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SandboxPortError, match=str(port)), serving(SandboxSettings(smtp_port=port)):
            pytest.fail("it is open")


def test_starttls_that_somebody_strips_is_not_offered() -> None:
    async def greet(host: str, port: int) -> list[str]:
        client = Client(hostname=host, port=port, start_tls=False)
        try:
            await client.connect()
            await client.ehlo()
            return [name for name in ("starttls", "auth") if client.supports_extension(name)]
        finally:
            await hang_up(client)

    with serving(SandboxSettings(smtp_port=0, smtp_tls=False)) as url:
        smtp = json.loads(httpx2.get(f"{url}/admin/mail", timeout=60).content)["smtp"]
        assert smtp["tls"] is None
        assert asyncio.run(greet(smtp["host"], smtp["starttls"])) == []
