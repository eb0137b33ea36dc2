"""The words of the carriers: what is to be sent, what a provider said to it, what it told later."""

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
    """The provider's own id, which its receipts name; of SMTP the Message-ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a provider told later, verified. The same may come twice, late, and before the answer to the message."""

    provider: str
    reference: str
    state: State
    """`delivered`, `bounced` or `failed`."""
    detail: str = ""
    """Without address and content."""
    code: str = ""
    """The provider's own word for what went wrong: Twilio's error code, Resend's kind of bounce."""
    message_id: str = ""
    """Ours, if the provider repeats it: it finds a message whose reference nobody got to know."""
    is_complaint: bool = False
    """The recipient called it spam: it was delivered, and nothing more should be sent there."""
    is_lasting: bool = False
    """Nothing will ever arrive at this address."""
    again_after_s: float | None = None
    """It was not delivered, and certainly not: the carrier of this recipient may take it after so long."""


class Provider(Protocol):
    """One carrier of one channel."""

    name: str
    channel: Channel

    async def send(self, parcel: Parcel) -> Taken:
        """One attempt. `PermanentError`, `TemporaryError`, and `UnknownError` where it may have taken it."""
        ...

    async def find(self, parcel: Parcel, since_ms: int) -> list[Taken]:
        """What it has taken since then that may be this parcel; of a provider that cannot say, nothing.
        `TemporaryError`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
