"""Where the server listens, and what must be there before somebody from elsewhere may come in."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

from conveyor.audit.trail import Audit, operator
from conveyor.model.errors import InvalidSettingError
from conveyor.server.rights import Right
from conveyor.server.tokens import Secret, Tokens

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 compared with, not bound
FIRST_NAME: Final = "first"


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What `conveyor serve` was told of the network."""

    host: str = "127.0.0.1"
    port: int = 8787
    certificate: str | None = None
    """A PEM file; `key` is its private key."""
    key: str | None = None
    plain_http: bool = False
    """TLS ends somewhere before us, or nobody minds."""
    allowed_hosts: tuple[str, ...] = ()
    """Names in Host headers besides our own."""
    proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    rate: float | None = None
    """Requests a second of one token, and of one address."""

    @property
    def hosts(self) -> frozenset[str]:
        """The names that a Host header may say."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return LOOPBACK | {each.lower() for each in (*self.allowed_hosts, own) if each not in ANY}

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def check_binding(binding: Binding, *, has_token: bool) -> None:
    """`InvalidSettingError` for a door that would stand open."""
    if (binding.certificate is None) != (binding.key is None):
        raise InvalidSettingError("--certificate", binding.certificate, "goes with `--key`, and both are files")
    if binding.is_loopback:
        return
    if not has_token:
        raise InvalidSettingError(
            "CONVEYOR_HOST",
            binding.host,
            "is not a loopback address, and there is no token to ask for",
            hint="`conveyor tokens create NAME --admin`, or set CONVEYOR_TOKEN; or bind 127.0.0.1",
        )
    if binding.certificate is None and not binding.plain_http:
        raise InvalidSettingError(
            "CONVEYOR_HOST",
            binding.host,
            "is not a loopback address, and tokens would pass in the clear",
            hint="give `--certificate` and `--key`, or say `--plain-http` if a proxy before it does TLS",
        )


async def make_first_token(tokens: Tokens, audit: Audit) -> Secret | None:
    """An admin token, if there is none at all."""
    if await tokens.is_any():
        return None
    token, secret = await tokens.create(FIRST_NAME, frozenset({Right.ADMIN}), created_by="conveyor serve")
    await audit.record(operator(), "token.create", f"{token.id} {token.name}", result="ok")
    return secret
