"""What a `cloudflare://` URL says: whose queues, behind which API, and how long to lease and to wait. The token never
stands in it: it comes from the environment."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import PULL_MS_MAX

CLOUDFLARE: Final = "https://api.cloudflare.com/client/v4"
PATIENCE_S: Final = 30.0
PREFIX: Final = "/client/v4"
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_QUEUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}")
_OPTIONS: Final = frozenset({"api", "lease", "patience", "plain"})
_HINT: Final = "as in `cloudflare://ACCOUNT/QUEUE`, or `cloudflare://ACCOUNT?api=https://queues.example.com`"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A `cloudflare://` URL, read."""

    account: str
    queue: str | None
    """The only one, or None for all of the account."""
    base: str
    """The API, up to `/client/v4`."""
    lease_ms: int | None = None
    """How long a pulled message is ours; None: the handler's timeout and half a minute."""
    patience_s: float = PATIENCE_S
    """How long a send is tried again."""

    @property
    def account_id(self) -> str:
        """As paths have it: 32 hex digits. A conveyor takes any, so there a word will do in the URL."""
        return self.account if _ID.fullmatch(self.account) else hashlib.sha256(self.account.encode()).hexdigest()[:32]

    @property
    def is_cloudflare(self) -> bool:
        """Cloudflare itself, not another conveyor."""
        return (urlsplit(self.base).hostname or "").endswith("cloudflare.com")

    @property
    def shown(self) -> str:
        """For people: which queues, and where."""
        place = f"cloudflare://{self.account}" + (f"/{self.queue}" if self.queue else "")
        return place if self.is_cloudflare else f"{place}?api={self.base.removesuffix(PREFIX)}"


def read_address(url: str) -> Address:
    """`InvalidSettingError`, which never repeats what may be a token."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise _invalid("...@...", "holds a token", hint="put it into CLOUDFLARE_API_TOKEN or CONVEYOR_TOKEN instead")
    queue = unquote(parts.path.strip("/")) or None
    if _ACCOUNT.fullmatch(parts.netloc) is None or (queue is not None and _QUEUE.fullmatch(queue) is None):
        raise _invalid(url, "names no account, or no queue that can be", hint=_HINT)
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - _OPTIONS):
        raise _invalid(url, f"`{unknown[0]}` is no option of it", hint=f"there is {', '.join(sorted(_OPTIONS))}")
    api = options.get("api") or os.environ.get("CLOUDFLARE_API_BASE_URL") or CLOUDFLARE
    address = Address(
        account=parts.netloc,
        queue=queue,
        base=_read_api(api, may_be_plain=options.get("plain") == "yes"),
        lease_ms=_read_lease(options.get("lease")),
        patience_s=_read_patience(options.get("patience")),
    )
    if address.is_cloudflare and address.account_id != address.account:
        raise _invalid(url, "Cloudflare's accounts have an id of 32 hex digits", hint="`wrangler whoami` shows it")
    return address


def read_token(address: Address) -> str:
    """From the environment. A conveyor's own token is never shown to Cloudflare. `InvalidSettingError`."""
    names = ("CLOUDFLARE_API_TOKEN",) if address.is_cloudflare else ("CONVEYOR_TOKEN", "CLOUDFLARE_API_TOKEN")
    token = next((found for name in names if (found := os.environ.get(name, "").strip())), "")
    if not token:
        raise InvalidSettingError(names[0], "", f"is needed for `{address.shown}`", hint=f"export {names[0]}=...")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidSettingError(names[0], "...", "holds what no header can", hint="copy the token anew")
    return token


def _read_api(api: str, *, may_be_plain: bool) -> str:
    parts = urlsplit(api)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise InvalidSettingError("api", "...", "is no address of an API", hint="as in `https://queues.example.com`")
    if parts.scheme == "http" and not may_be_plain and not _is_loopback(parts.hostname):
        raise InvalidSettingError(
            "api", api, "would show the token to the whole network", hint="use https, or add `plain=yes` to the URL"
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or PREFIX}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_lease(text: str | None) -> int | None:
    if text is None:
        return None
    return read_duration_ms(_number_or(text), name="lease", least_ms=1_000, most_ms=PULL_MS_MAX)


def _read_patience(text: str | None) -> float:
    return PATIENCE_S if text is None else read_duration_ms(_number_or(text), name="patience", most_ms=3_600_000) / 1000


def _number_or(text: str) -> Duration:
    return float(text) if text.replace(".", "", 1).isdigit() else text


def _invalid(url: str, problem: str, *, hint: str) -> InvalidSettingError:
    return InvalidSettingError("CONVEYOR_URL", url, problem, hint=hint)
