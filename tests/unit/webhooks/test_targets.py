"""Which URLs and addresses are called: S02 of spec/security.md."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from conveyor.model.beside import WebhookTargetError
from conveyor.model.errors import InvalidSettingError
from conveyor.webhooks.targets import Policy, check_address, check_addresses, check_url, is_public

STRICT = Policy()
OPEN = Policy(http=True, ports=None)


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "https://example.com:8443/a?b=c", "https://xn--bcher-kva.example/x", "https://example.com./", "https://93.184.215.14/", "https://[2606:2800:21f:cb07::1]/"],
)
def test_a_plain_url_of_the_internet_is_called(url: str) -> None:
    assert check_url(url, STRICT) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "unix:///run/docker.sock",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://@example.com/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://example.com\\@evil.example/",
        "https://exa mple.com/",
        "https://example.com/\r\nx: y",
        "https://example.com/\x00",
        "https://bücher.example/",
        "https://[::1/",
        "https://[::1%25lo]/",
        "https://-.example/",
        "https://example.com/#fragment",
        "https://example.com/" + "a" * 2_048,
        "https://ex_ample%2ecom/",
    ],
)
def test_a_url_that_could_mean_anything_else_is_not(url: str) -> None:
    with pytest.raises(WebhookTargetError):
        check_url(url, STRICT)
    if not url.startswith(("http://example.com/", "https://example.com:22/")):
        with pytest.raises(WebhookTargetError):
            check_url(url, OPEN)


def test_settings_open_what_they_name() -> None:
    assert check_url("http://example.com/", Policy(http=True))
    assert check_url("http://example.com:8080/", Policy(http=True))
    with pytest.raises(WebhookTargetError):
        check_url("https://example.com:8080/", Policy(http=True))
    assert check_url("https://example.com:22/", Policy(ports=frozenset({22})))
    with pytest.raises(WebhookTargetError):
        check_url("https://example.com/", Policy(ports=frozenset({22})))
    for policy in (Policy(allow=("here",)), Policy(allow=("10.0.0.1/8",)), Policy(ports=frozenset({0}))):
        with pytest.raises(InvalidSettingError):
            policy.check()


NOT_PUBLIC = ["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.215.14", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2001:20::1", "2002:7f00:1::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "4000::1"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_special_addresses_are_not_called(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(WebhookTargetError):
        check_address(address, STRICT)
    with pytest.raises(WebhookTargetError):
        check_addresses(["93.184.215.14", address], STRICT)


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses_are(address: str) -> None:
    check_addresses([address], STRICT)


def test_a_host_without_addresses_is_not_called() -> None:
    for found in ([], ["nonsense"]):
        with pytest.raises(WebhookTargetError):
            check_addresses(found, STRICT)


def test_an_address_of_our_own_is_not_called_however_public(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WebhookTargetError):
        check_address("127.0.0.1", STRICT)
    bound: list[object] = []
    monkeypatch.setattr(socket.socket, "bind", lambda _self, where: bound.append(where))  # as if it were ours
    with pytest.raises(WebhookTargetError):
        check_address("93.184.215.14", STRICT)
    assert bound == [("93.184.215.14", 0)]


def test_allowed_networks_are_called() -> None:
    policy = Policy(allow=("127.0.0.0/8", "fd00::/8"))
    check_addresses(["127.0.0.1", "fd00::1", "1.1.1.1"], policy)
    with pytest.raises(WebhookTargetError):
        check_addresses(["127.0.0.1", "10.0.0.1"], policy)
