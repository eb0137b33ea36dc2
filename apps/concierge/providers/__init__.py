"""Those who carry messages away, behind one port: `DeliveryService`.

What is here is the port that `processors.py` calls; the carriers of it are modules beside this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from conveyor_apps.concierge.sensitive import Sensitive, veiled
from conveyor_apps.concierge.words import Channel, State


@veiled
@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message as a provider gets it."""

    message_id: str
    channel: Channel
    recipient: Sensitive
    subject: Sensitive
    """Empty for a text message."""
    content: Sensitive
    key: str
    """The same at every attempt to send this version of it: Message-ID and idempotency key are made of it."""
    once: bool = False
    """At most once: nothing is tried a second time, nor with another provider, unless the first certainly did not
    take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A provider has it."""

    provider: str
    reference: str
    """The provider's own id, which its receipts name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a provider told later, verified."""

    provider: str
    reference: str
    state: State
    """`delivered`, `bounced` or `failed`."""
    detail: str = ""
    """Without address and content."""


class DeliveryService(Protocol):
    """All providers together: fail-over, circuit breakers and limits are behind it."""

    async def send_email(self, parcel: Parcel) -> Taken:
        """`PermanentError`, `TemporaryError`, `UnknownError`."""
        ...

    async def send_sms(self, parcel: Parcel) -> Taken:
        """`PermanentError`, `TemporaryError`, `UnknownError`."""
        ...

    def read_receipts(self, provider: str, url: str, headers: Mapping[str, str], body: bytes) -> list[Receipt]:
        """What an inbound webhook says, its signature verified against the address that the provider called.
        `RefusedError` with 401 where it is not signed, 404 for an unknown provider."""
        ...

    def status(self) -> list[dict[str, object]]:
        """Each provider, for `/debug/queue-status`: name, channel, how its circuit stands."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
