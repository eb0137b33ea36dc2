"""Which URLs and addresses a webhook may call: those of the public internet, and what the settings allow beside them.

A URL is looked at when it is given, and its host's addresses whenever it is called, just before one of them is dialled.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from conveyor.model.beside import WebhookTargetError
from conveyor.model.errors import InvalidSettingError

Network: TypeAlias = IPv4Network | IPv6Network

URL_CHARS_MAX: Final = 2_048
PORTS: Final = frozenset({443, 8443})
HTTP_PORTS: Final = frozenset({80, 8080})
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]{2,45}")
_URL: Final = re.compile(r"[!-~]+")

# Those of IANA's special-purpose registries, multicast, and two that clouds keep for themselves.
DENIED: Final[tuple[Network, ...]] = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16",
        "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
GLOBAL_V6: Final = IPv6Network("2000::/3")
"""All else of version 6 is loopback, mapped, translated, local, multicast or nobody's."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be called."""

    http: bool = False
    """Without TLS too."""
    ports: frozenset[int] | None = PORTS
    """None: any."""
    allow: tuple[str, ...] = ()
    """Networks that are called though they are not public: `127.0.0.0/8`."""

    def check(self) -> None:
        """`InvalidSettingError`."""
        for each in self.allow:
            try:
                ip_network(each)
            except ValueError as error:
                problem = f"is no network: {error}"
                raise InvalidSettingError("allow", each, problem, hint="as in `10.1.0.0/16`") from None
        for port in self.ports or ():
            if not 1 <= port <= 65_535:
                raise InvalidSettingError("ports", port, "is no port")

    def allows(self, port: int, *, is_tls: bool) -> bool:
        """Whether this port may be called."""
        if self.ports is None or port in self.ports:
            return port != 0
        return not is_tls and self.http and self.ports == PORTS and port in HTTP_PORTS


def check_url(url: str, policy: Policy) -> str:
    """The URL, if it may be called as far as it says itself. `WebhookTargetError`."""
    if not isinstance(url, str) or not _URL.fullmatch(url) or len(url) > URL_CHARS_MAX or "\\" in url:
        raise WebhookTargetError("it is no URL of printable ASCII", hint="write other signs as %XX, and hosts as xn--")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookTargetError(f"it is no URL: {error}") from None
    if parts.scheme != "https" and not (policy.http and parts.scheme == "http"):
        raise WebhookTargetError("only https is called", hint="`app.webhooks.configure(http=True)` allows http too")
    _check_parts(parts)
    port = port if port is not None else 443 if parts.scheme == "https" else 80
    if not policy.allows(port, is_tls=parts.scheme == "https"):
        raise WebhookTargetError(f"port {port} is not called", hint="`app.webhooks.configure(ports=...)` says which")
    return url


def _check_parts(parts: SplitResult) -> None:
    if "@" in parts.netloc:
        raise WebhookTargetError("it holds credentials", hint="the signature says who calls")
    if parts.fragment or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise WebhookTargetError("its host is no name and no address, or it has a fragment")


def check_address(text: str, policy: Policy) -> None:
    """`WebhookTargetError` unless it is public, or allowed; our own never is."""
    try:
        address = ip_address(text)
    except ValueError:
        raise WebhookTargetError(f"`{text}` is no address") from None
    if any(address in ip_network(each) for each in policy.allow):
        return
    if not is_public(address) or _is_own(address):
        raise WebhookTargetError(f"`{text}` is not public", hint="`app.webhooks.configure(allow=...)` allows networks")


def check_addresses(found: Sequence[str], policy: Policy) -> None:
    """Every one: a name of which one address is not public may be an attack. `WebhookTargetError`."""
    if not found:
        raise WebhookTargetError("its host has no address")
    for each in found:
        check_address(each, policy)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is one of the public internet's."""
    if isinstance(address, IPv6Address) and (address not in GLOBAL_V6 or address.scope_id is not None):
        return False
    return address.is_global and not any(address in each for each in DENIED if each.version == address.version)


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((str(address), 0))
        return True
    return False
