"""One request: S02, S03 and S04 of spec/security.md, with a resolver and a dialler of the test's own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conveyor.model.beside import WebhookFailedError, WebhookTargetError
from conveyor.webhooks.courier import ANSWER_BYTES_MAX, Courier
from conveyor.webhooks.targets import Policy
from kit.hooks import PUBLIC, Lines, Listener, listening, reply

pytestmark = pytest.mark.anyio

HTTP = Policy(http=True, ports=None)


def courier_of(lines: Lines, policy: Policy = HTTP, *, deadline_s: float = 20, tls: ssl.SSLContext | None = None) -> Courier:
    return Courier(policy, resolve=lines.resolve, dial=lines.dial, deadline_s=deadline_s, tls=tls)


async def test_a_request_goes_to_the_address_that_was_looked_at() -> None:
    async with listening(Listener()) as listener:
        lines = Lines({"example.com": [PUBLIC, "1.1.1.1"]}, listener.port)
        answer = await courier_of(lines).post("http://example.com:8080/a?b=c", {"x-one": "1"}, b"{}")
    assert (answer.status, lines.resolved, lines.dialled) == (200, ["example.com"], [(PUBLIC, 8080)])
    [hit] = listener.hits
    assert (hit.line, hit.body) == ("POST /a?b=c HTTP/1.1", b"{}")
    assert (hit.headers["host"], hit.headers["x-one"]) == ("example.com:8080", "1")
    assert "authorization" not in hit.headers


@pytest.mark.parametrize(
    "addresses",
    [[], ["127.0.0.1"], ["169.254.169.254"], [PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["fd00:ec2::254"]],
)
async def test_nobody_is_dialled_unless_every_address_is_public(addresses: list[str]) -> None:
    lines = Lines({"rebind.example": addresses})
    with pytest.raises(WebhookTargetError):
        await courier_of(lines).post("http://rebind.example/", {}, b"{}")
    assert lines.dialled == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"])
async def test_loopback_is_not_reached_however_it_is_written(host: str) -> None:
    """With the real resolver, and a real listener as a canary."""
    async with listening(Listener()) as canary:
        with pytest.raises((WebhookTargetError, WebhookFailedError)):
            await Courier(HTTP).post(f"http://{host}:{canary.port}/", {}, b"{}")
    assert canary.hits == []


async def test_the_second_address_is_tried_where_the_first_does_not_answer() -> None:
    async with listening(Listener()) as listener:
        lines = Lines({"example.com": ["1.1.1.1", PUBLIC]}, listener.port)
        dial = lines.dial

        async def half(address: str, port: int) -> object:
            if address == "1.1.1.1":
                lines.dialled.append((address, port))
                raise ConnectionRefusedError
            return await dial(address, port)

        courier = Courier(HTTP, resolve=lines.resolve, dial=half)  # type: ignore[arg-type]  # half a connection
        assert (await courier.post("http://example.com/", {}, b"{}")).status == 200
    assert lines.dialled == [("1.1.1.1", 80), (PUBLIC, 80)]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    async with listening(Listener()) as canary:
        to = f"http://127.0.0.1:{canary.port}/"
        async with listening(Listener(lambda _number: reply(status, location=to))) as listener:
            answer = await courier_of(Lines({"example.com": [PUBLIC]}, listener.port)).post("http://example.com/", {}, b"{}")
    assert (answer.status, len(listener.hits), canary.hits) == (status, 1, [])


async def test_the_environment_s_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(Listener()) as proxy, listening(Listener()) as listener:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await courier_of(Lines({"example.com": [PUBLIC]}, listener.port)).post("http://example.com/", {}, b"{}")
    assert (len(listener.hits), proxy.hits) == (1, [])


async def test_one_that_hangs_is_given_up() -> None:
    async with listening(Listener(lambda _number: None)) as listener:
        courier = courier_of(Lines({"example.com": [PUBLIC]}, listener.port), deadline_s=0.05)
        with pytest.raises(WebhookFailedError, match=r"within 0\.05 s"):
            await courier.post("http://example.com/", {}, b"{}")


async def test_one_that_drips_is_given_up_as_a_whole() -> None:
    async with listening(Listener(lambda _number: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")) as listener:
        listener.answer, drip = lambda number: None, listener.answer
        courier = courier_of(Lines({"example.com": [PUBLIC]}, listener.port), deadline_s=0.05)
        with pytest.raises(WebhookFailedError):
            await courier.post("http://example.com/", {}, b"{}")
        listener.answer = drip
        with pytest.raises(WebhookFailedError):  # cut off in the middle
            await courier_of(Lines({"example.com": [PUBLIC]}, listener.port)).post("http://example.com/", {}, b"{}")


async def test_a_long_answer_is_cut_and_not_decoded() -> None:
    async with listening(Listener(lambda _number: reply(200, b"x" * 1_000_000, content_encoding="gzip"))) as listener:
        answer = await courier_of(Lines({"example.com": [PUBLIC]}, listener.port)).post("http://example.com/", {}, b"{}")
    assert (answer.status, answer.body) == (200, b"x" * ANSWER_BYTES_MAX)
    assert answer.headers["content-encoding"] == "gzip"


async def test_of_an_answer_without_end_no_more_is_waited_for() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"
    async with listening(Listener(lambda _number: head + b"x" * ANSWER_BYTES_MAX)) as listener:
        answer = await courier_of(Lines({"example.com": [PUBLIC]}, listener.port)).post("http://example.com/", {}, b"{}")
    assert (answer.status, answer.body) == (200, b"x" * ANSWER_BYTES_MAX)


@pytest.mark.parametrize("answer", [b"", b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000])
async def test_what_is_no_http_is_a_failure(answer: bytes) -> None:
    async with listening(Listener(lambda _number: answer)) as listener:
        with pytest.raises(WebhookFailedError):
            await courier_of(Lines({"example.com": [PUBLIC]}, listener.port)).post("http://example.com/", {}, b"{}")


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64 + ".example"])
async def test_a_name_that_does_not_resolve_is_a_failure(host: str) -> None:
    with pytest.raises(WebhookFailedError):
        await Courier(HTTP).post(f"http://{host}/", {}, b"{}")


def certificate(folder: Path, name: str) -> Path:
    """Of a host, and of its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begun = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begun)
        .not_valid_after(begun.replace(year=2120))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(PUBLIC))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "host.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


async def test_tls_goes_by_the_name_though_an_address_is_dialled(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "example.com")
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(pem)
    listener = Listener()
    here.sni_callback = lambda _socket, name, _context: listener.names.append(name)
    async with listening(listener, here):
        lines = Lines({"example.com": [PUBLIC], "other.example": [PUBLIC]}, listener.port)
        courier = courier_of(lines, Policy(), tls=ssl.create_default_context(cafile=pem))
        assert (await courier.post("https://example.com/", {}, b"{}")).status == 200
        with pytest.raises(WebhookFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await courier.post("https://other.example/", {}, b"{}")
        with pytest.raises(WebhookFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await courier_of(lines, Policy()).post("https://example.com/", {}, b"{}")
    assert listener.names[:2] == ["example.com", "other.example"]
    assert lines.dialled == [(PUBLIC, 443)] * 3
    assert [hit.headers["host"] for hit in listener.hits] == ["example.com"]
