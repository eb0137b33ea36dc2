"""E-mail by Resend. Its idempotency key is ours, so that a mail that came twice is one to it, for a day."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import PermanentError, Reason, TemporaryError, UnknownError
from conveyor_apps.concierge.words import Channel, State

from .parcel import Parcel, Receipt, Taken
from .smtp import message_id_of, read_address
from .trouble import ProviderBusyError, ProviderDownError, say
from .wire import Answer, Ask, Wire

NAME: Final = "resend"
BUSY_AFTER_S: Final = 1.0
QUOTAS: Final = {"daily_quota_exceeded": 3_600.0, "monthly_quota_exceeded": 86_400.0}
"""How long before it is worth asking again."""
CONCURRENT: Final = "concurrent_idempotent_requests"
CONCURRENT_AFTER_S: Final = 5.0
TAG: Final = "message_id"
HARD: Final = "Permanent"
"""A bounce of an address that is not there; others may be gone tomorrow."""


class _Sent(msgspec.Struct, frozen=True):
    id: str


class _Refusal(msgspec.Struct, frozen=True):
    name: str


class _Bounce(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    sub_type: str = ""


class _Data(msgspec.Struct, frozen=True):
    email_id: str = ""
    tags: dict[str, str] | list[dict[str, str]] = {}
    bounce: _Bounce = _Bounce()


class _Event(msgspec.Struct, frozen=True):
    type: str
    data: _Data


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendTerms:
    """Who we are to it."""

    url: str
    key: str
    sender: str
    timeout_s: float

    def __repr__(self) -> str:
        return f"ResendTerms({self.url})"


class ResendProvider:
    """Resend's API."""

    name = NAME
    channel = Channel.EMAIL

    def __init__(self, terms: ResendTerms, *, now_ms: Callable[[], int] = clock.now_ms) -> None:
        self._terms = terms
        self._wire = Wire(NAME, terms.url, timeout_s=terms.timeout_s)

    async def send(self, parcel: Parcel) -> Taken:
        """Hand one mail in. `PermanentError`, `TemporaryError`, `UnknownError`."""
        try:
            read_address(parcel.recipient)
        except ValueError as error:
            raise PermanentError(Reason.INVALID, f"the address cannot be written into a mail: {error}") from None
        headers = {"authorization": f"Bearer {self._terms.key}", "idempotency-key": parcel.key}
        answer = await self._wire.ask(Ask(method="POST", path="/emails", headers=headers, json=self._mail(parcel)))
        if answer.status >= 300:
            raise _refused(answer)
        sent = answer.read(_Sent)
        if sent is None:
            raise UnknownError(say(NAME, f"its answer {answer.status} cannot be read"))
        return Taken(provider=NAME, reference=sent.id)

    async def find(self, parcel: Parcel, since_ms: int) -> list[Taken]:
        """There is no need to ask: sent again with the same key, it answers as it did before."""
        return []

    async def close(self) -> None:
        """Let go of connections."""
        await self._wire.close()

    def _mail(self, parcel: Parcel) -> dict[str, object]:
        return {
            "from": self._terms.sender,
            "to": [parcel.recipient],
            "subject": parcel.subject,
            "text": parcel.content,
            "headers": {
                "Message-ID": message_id_of(parcel.key, self._terms.sender),
                "Auto-Submitted": "auto-generated",
            },
            "tags": [{"name": TAG, "value": tag_of(parcel.message_id)}],
        }


def tag_of(message_id: str) -> str:
    """A message's id as a tag: those are of letters, digits, `_` and `-` alone."""
    return message_id.encode().hex()


def _refused(answer: Answer) -> PermanentError | TemporaryError | UnknownError:
    """What a refusal amounts to. An error without Resend's own envelope may be a proxy's, which knows nothing."""
    refusal = answer.read(_Refusal)
    status, name = answer.status, refusal.name if refusal else ""
    words = f"refused with {status} {_safe(name)}".strip()
    if status == 429:
        return ProviderBusyError(NAME, words, after_s=max(answer.retry_after_s(BUSY_AFTER_S), QUOTAS.get(name, 0)))
    if status in {401, 402, 403, 404, 405, 407} or 300 <= status < 400:
        return ProviderDownError(NAME, words)
    if status in {409, 425} and name != "invalid_idempotent_request":
        return TemporaryError(say(NAME, words), after_s=CONCURRENT_AFTER_S)
    if status == 503 or (status >= 500 and refusal is not None):
        return ProviderDownError(NAME, words)
    if status >= 500 or status == 408:
        return UnknownError(say(NAME, words))
    reason = Reason.INVALID if name == "validation_error" else Reason.REFUSED
    return PermanentError(reason, say(NAME, words))


def _safe(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() and len(name) <= 64 else ""


def read_event(body: bytes) -> Receipt | None:
    """What one of Resend's events says of a message; None for those that say nothing of its end. `ValueError` for
    what is no event."""
    try:
        event = msgspec.json.decode(body, type=_Event)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no event of Resend's: {error}") from None
    states = {
        "email.delivered": State.DELIVERED,
        "email.complained": State.DELIVERED,
        "email.bounced": State.BOUNCED,
        "email.suppressed": State.BOUNCED,
        "email.failed": State.FAILED,
    }
    state = states.get(event.type)
    if state is None or not event.data.email_id:
        return None
    kind = _safe(event.data.bounce.sub_type or event.data.bounce.type)
    words = event.type.removeprefix("email.")
    return Receipt(
        provider=NAME,
        reference=event.data.email_id,
        state=state,
        detail=f"{words} {kind}".strip(),
        code=kind,
        message_id=_read_tag(event.data.tags),
        is_complaint=event.type == "email.complained",
        is_lasting=event.type == "email.suppressed" or event.data.bounce.type == HARD,
    )


def _read_tag(tags: dict[str, str] | list[dict[str, str]]) -> str:
    if isinstance(tags, list):
        tags = {each.get("name", ""): each.get("value", "") for each in tags}
    try:
        return bytes.fromhex(tags.get(TAG, "")).decode()
    except ValueError:
        return ""
