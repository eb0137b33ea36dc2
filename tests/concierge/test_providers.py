"""SMTP, Resend and Twilio against the sandbox: what is sent, and what each refusal amounts to."""

import asyncio
import email.policy
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor_apps.concierge.errors import PermanentError, Reason, SettingError, TemporaryError, UnknownError
from conveyor_apps.concierge.providers.opening import new_providers
from conveyor_apps.concierge.providers.parcel import Provider
from conveyor_apps.concierge.providers.smtp import message_id_of, read_address, read_mail_host, write_mail
from conveyor_apps.concierge.providers.trouble import ProviderBusyError, ProviderDownError
from conveyor_apps.sandbox import SandboxSettings, serving
from conveyor_apps.secret import Secret

from .posting import ACCOUNT, NUMBER, SENDER, TIMEOUT_S, TOKEN, PostOffice, email_to, open_post_office, text_to

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostOffice]:
    with open_post_office(tmp_path_factory.mktemp("post")) as office:
        yield office


@pytest.fixture
async def providers(office: PostOffice) -> AsyncIterator[dict[str, Provider]]:
    office.calm()
    made = new_providers(office.settings)
    yield {each.name: each for each in made}
    for each in made:
        await each.close()


# SMTP


async def test_a_mail_arrives_as_it_was_written(office: PostOffice, providers: dict[str, Provider]) -> None:
    taken = await providers["smtp"].send(email_to("b@x.test", "m1.1"))
    [row] = office.accepted("smtp")
    assert taken.reference == row["reference"] == message_id_of("m1.1", SENDER)
    raw = office.http.get(f"/inbox/{row['number']}.eml").content
    mail = message_from_bytes(raw, policy=email.policy.default)
    assert (mail["subject"], mail["from"], mail["to"]) == ("Termin Ä", SENDER, "b@x.test")
    assert mail["auto-submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == ["Grüße", ".", "Bis morgen."]
    assert "m1" not in taken.reference.partition("@")[0].replace("<", "").strip("0123456789abcdef")


async def test_a_mail_goes_by_tls_from_the_first_byte_too(office: PostOffice) -> None:
    smtp = office.http.get("/admin/mail").json()["smtp"]
    office.calm()
    [provider] = new_providers(office.but(smtp_url=Secret(f"smtps://u:p@127.0.0.1:{smtp['tls']}"), order=("smtp",)))
    await provider.send(email_to("b@x.test"))
    assert len(office.accepted("smtp")) == 1


@pytest.mark.parametrize(
    ("mishap", "error", "reason"),
    [
        ({"refuse": 550}, PermanentError, Reason.INVALID),
        ({"refuse": 550, "moment": "data"}, PermanentError, Reason.INVALID),
        ({"refuse": 553}, PermanentError, Reason.INVALID),
        ({"refuse": 554, "moment": "data"}, PermanentError, Reason.BLOCKED),
        ({"refuse": 552, "moment": "data"}, PermanentError, Reason.REFUSED),
        ({"refuse": 452}, TemporaryError, 900.0),
        ({"refuse": 451, "moment": "data"}, TemporaryError, None),
        ({"refuse": 421}, ProviderDownError, None),
        ({"drop": True}, UnknownError, None),
    ],
)
async def test_what_a_mail_server_says_has_its_meaning(
    office: PostOffice, providers: dict[str, Provider], mishap: dict[str, Any], error: type[Exception], reason: Any
) -> None:
    office.strike("smtp", mishap)
    with pytest.raises(error) as caught:
        await providers["smtp"].send(email_to("b@x.test"))
    assert type(caught.value) is error
    assert getattr(caught.value, "reason", getattr(caught.value, "after_s", None)) == reason
    assert "b@x.test" not in str(caught.value)
    assert getattr(caught.value, "is_lasting", False) is (mishap == {"refuse": 550})  # said to the recipient alone


def later(time_s: Callable[[], float], shift_s: float) -> float:
    """A loop's clock, put forward."""
    return time_s() + shift_s


async def test_an_answer_that_does_not_come_leaves_the_end_unknown(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.calm()
    for name in ("smtp", "twilio"):
        office.strike(name, {"delay_ms": 60_000})
    smtp, twilio = new_providers(office.but(order=("smtp", "twilio")))
    try:
        calls = asyncio.gather(smtp.send(email_to("b@x.test")), twilio.send(text_to()), return_exceptions=True)
        while not (office.accepted("smtp") and office.accepted("twilio")):
            await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", functools.partial(later, loop.time, TIMEOUT_S + 1))
        ends = await calls
    finally:
        await twilio.close()
    assert [type(each) for each in ends] == [UnknownError, UnknownError]
    assert (len(office.accepted("smtp")), len(office.accepted("twilio"))) == (1, 1)


async def test_a_login_a_certificate_or_a_strip_of_tls_that_fails_says_nothing_of_the_mail(
    office: PostOffice, tmp_path: Path
) -> None:
    office.calm()
    port = office.http.get("/admin/mail").json()["smtp"]["starttls"]
    with serving(SandboxSettings(smtp_port=0, smtp_tls=False)) as stripped:
        open_port = httpx2.get(f"{stripped}/admin/mail", timeout=60).json()["smtp"]["starttls"]
        cases = {
            "SMTPAuthenticationError 535": office.but(smtp_url=Secret(f"smtp://u:wrong-key@127.0.0.1:{port}")),
            "SSLCertVerificationError": office.but(smtp_ca=""),
            "STARTTLS": office.but(smtp_url=Secret(f"smtp://u:p@127.0.0.1:{open_port}")),
            "SMTPConnectError": office.but(smtp_url=Secret("smtp://u:p@127.0.0.1:1")),
        }
        for settings in cases.values():
            provider = new_providers(settings)[0]
            with pytest.raises(ProviderDownError, match="smtp: no connection"):
                await provider.send(email_to("b@x.test"))
        assert httpx2.get(f"{stripped}/admin/accepted", timeout=60).json()["accepted"] == []
    assert office.accepted("smtp") == []


@pytest.mark.parametrize(
    "address",
    [
        "a@b.test\r\nBcc: x@y.test", "a@b.test\nX: y", "a@b.test,c@d.test", "a@b.test;c@d.test", "<a@b.test>",
        "A <a@b.test>", "a b@c.test", '"a b"@c.test', "a@b@c.test", "@c.test", "a@", "a", "", "a@b.test ",
        "a\x00@b.test", "a@b.test\x7f", "ä@b.test", "a@b.test(x)", "x" * 65 + "@b.test", "a@" + "b" * 250 + ".test",
        "a@[127.0.0.1]", "a\t@b.test", "group:a@b.test;", "a@b.test\u2028Bcc: x@y.test",
    ],
)  # fmt: skip
async def test_no_header_is_smuggled_in_with_an_address(address: str) -> None:
    with pytest.raises(ValueError, match="address|ASCII|name@domain"):
        read_address(address)
    with pytest.raises(PermanentError) as caught:
        write_mail(email_to(address), sender=SENDER, now_ms=0)
    assert caught.value.reason is Reason.INVALID


@pytest.mark.parametrize("subject", ["a\r\nBcc: x@y.test", "a\nb", "a\rb"])
async def test_no_header_is_smuggled_in_with_a_subject(subject: str) -> None:
    with pytest.raises(PermanentError):
        write_mail(email_to("b@x.test", subject=subject), sender=SENDER, now_ms=0)


@pytest.mark.parametrize(
    "url", ["http://u:p@h", "smtp://h", "smtp://u@h", "smtp://u:p@", "smtp://u:p@h:99999", "smtp://u:p@h:x", ""]
)
async def test_a_wrong_smtp_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_mail_host(url, sender=SENDER, timeout_s=1)
    assert "u:p" not in str(caught.value)
    assert "p" not in repr(read_mail_host("smtp://u:p@h", sender=SENDER, timeout_s=1)).removeprefix("MailHost").lower()


# Resend


async def test_resend_gets_the_key_and_the_message_id(office: PostOffice, providers: dict[str, Provider]) -> None:
    taken = await providers["resend"].send(email_to("b@x.test", "m1.1"))
    again = await providers["resend"].send(email_to("b@x.test", "m1.1"))
    [row] = office.accepted("resend")
    assert taken == again
    assert (row["id"], row["reference"], row["text"]) == (taken.reference, "m1.1", "Grüße\n.\nBis morgen.\n")


@pytest.mark.parametrize(
    ("mishap", "error", "more"),
    [
        ({"refuse": 422, "name": "validation_error"}, PermanentError, Reason.INVALID),
        ({"refuse": 422, "name": "invalid_attachment"}, PermanentError, Reason.REFUSED),
        ({"refuse": 429, "name": "rate_limit_exceeded"}, ProviderBusyError, 1.0),
        ({"refuse": 429, "name": "daily_quota_exceeded"}, ProviderBusyError, 3_600.0),
        ({"refuse": 429, "name": "monthly_quota_exceeded"}, ProviderBusyError, 86_400.0),
        ({"refuse": 403, "name": "invalid_api_key"}, ProviderDownError, None),
        ({"refuse": 409, "name": "concurrent_idempotent_requests"}, TemporaryError, 5.0),
        ({"refuse": 409, "name": "invalid_idempotent_request"}, PermanentError, Reason.REFUSED),
        ({"refuse": 500, "name": "application_error"}, ProviderDownError, None),
        ({"drop": True}, UnknownError, None),
    ],
)
async def test_what_resend_says_has_its_meaning(
    office: PostOffice, providers: dict[str, Provider], mishap: dict[str, Any], error: type[Exception], more: Any
) -> None:
    office.strike("resend", mishap)
    with pytest.raises(error) as caught:
        await providers["resend"].send(email_to("b@x.test"))
    assert type(caught.value) is error
    assert getattr(caught.value, "reason", getattr(caught.value, "after_s", None)) == more


# Twilio


async def test_a_text_arrives_with_the_way_back_to_us(office: PostOffice, providers: dict[str, Provider]) -> None:
    taken = await providers["twilio"].send(text_to(key="m:1.1"))
    [row] = office.accepted("twilio")
    assert (row["id"], row["recipients"], row["text"]) == (taken.reference, [NUMBER], "Bis morgen.")
    assert row["reference"] == f"{office.settings.desk.public_url}/webhooks/twilio?message=m%3A1"


@pytest.mark.parametrize(
    ("code", "error", "more"),
    [
        (21211, PermanentError, Reason.INVALID),
        (21408, PermanentError, Reason.BLOCKED),
        (21610, PermanentError, Reason.UNSUBSCRIBED),
        (21614, PermanentError, Reason.INVALID),
        (21617, PermanentError, Reason.REFUSED),
        (99999, PermanentError, Reason.REFUSED),
        (30001, TemporaryError, 60.0),
        (30003, TemporaryError, 1_800.0),
        (30022, TemporaryError, 60.0),
        (30023, TemporaryError, 86_400.0),
        (20429, ProviderBusyError, 1.0),
        (20003, ProviderDownError, None),
        (30034, ProviderDownError, None),
        (20500, ProviderDownError, None),
    ],
)
async def test_twilios_codes_have_their_meaning(
    office: PostOffice, providers: dict[str, Provider], code: int, error: type[Exception], more: Any
) -> None:
    office.strike("twilio", {"refuse": code})
    with pytest.raises(error) as caught:
        await providers["twilio"].send(text_to())
    assert type(caught.value) is error
    assert getattr(caught.value, "reason", getattr(caught.value, "after_s", None)) == more
    assert NUMBER not in str(caught.value)


async def test_twilio_is_asked_for_what_it_took(office: PostOffice, providers: dict[str, Provider]) -> None:
    twilio = providers["twilio"]
    sid = (await twilio.send(text_to())).reference
    now_ms = 1_000 * httpx2_now(office)
    assert [each.reference for each in await twilio.find(text_to(), now_ms)] == [sid]
    assert await twilio.find(text_to(content="Other words."), now_ms) == []
    assert await twilio.find(text_to("+4917000000"), now_ms) == []
    assert await twilio.find(text_to(), now_ms + 3_600_000) == []


def httpx2_now(office: PostOffice) -> int:
    """The moment that Twilio wrote into the text, in seconds."""
    from email.utils import parsedate_to_datetime

    path = f"/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    listed = office.http.get(path, auth=(ACCOUNT, TOKEN)).json()["messages"]
    return int(parsedate_to_datetime(listed[0]["date_created"]).timestamp())


# All of them


async def test_who_is_out_of_reach_has_taken_nothing(office: PostOffice) -> None:
    away = "http://127.0.0.1:1"
    settings = office.but(resend_url=away, twilio_url=away, order=("resend", "twilio"))
    for provider in new_providers(settings):
        with pytest.raises(ProviderDownError, match="cannot be reached"):
            await provider.send(email_to("b@x.test") if provider.name == "resend" else text_to())
        await provider.close()


async def test_a_proxys_page_says_nothing_of_the_message(office: PostOffice) -> None:
    """The sandbox's own front page answers 404 and 405; what answers without the provider's envelope is not it."""
    settings = office.but(resend_url=f"{office.url}/inbox", order=("resend",))
    [provider] = new_providers(settings)
    with pytest.raises(ProviderDownError, match="404"):
        await provider.send(email_to("b@x.test"))
    await provider.close()


async def test_settings_that_do_not_go_together_are_refused(office: PostOffice) -> None:
    assert [each.name for each in new_providers(office.but(order=("twilio", "smtp")))] == ["twilio", "smtp"]
    with pytest.raises(SettingError, match="CONCIERGE_PROVIDERS"):
        new_providers(office.but(order=("pigeon",)))
    with pytest.raises(SettingError, match="TWILIO_ACCOUNT_SID"):
        new_providers(office.but(twilio_account=""))
    with pytest.raises(SettingError, match="SMTP_CA"):
        new_providers(office.but(smtp_ca="/nowhere.pem"))
