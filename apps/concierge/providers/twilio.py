"""Text messages by Twilio.

Twilio knows no idempotency keys. So its SID is kept before anything else is done with it; and where an answer was lost
it is asked for the texts that it has taken since, before another is sent.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from conveyor_apps.concierge.errors import PermanentError, Reason, UnknownError
from conveyor_apps.concierge.words import Channel, State

from .parcel import Parcel, Receipt, Taken
from .trouble import say
from .twilio_codes import LASTING, LATER, NAME, NEVER, Refused
from .wire import Answer, Ask, Wire

PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")
SID: Final = re.compile(r"(SM|MM)[0-9a-f]{32}")
BUSY_AFTER_S: Final = 1.0
BODY_BYTES_MAX: Final = 65_536
SKEW_MS: Final = 120_000
"""How far Twilio's clock, which says whole seconds, may be from ours."""
PAGE: Final = "100"
MESSAGE: Final = "message"
"""The parameter of the callback's address that carries the message's id."""


class _Text(msgspec.Struct, frozen=True):
    sid: str
    body: str = ""
    date_created: str = ""
    direction: str = ""


class _Texts(msgspec.Struct, frozen=True):
    messages: list[_Text]


class _Refusal(msgspec.Struct, frozen=True):
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioTerms:
    """Who we are to it."""

    url: str
    account: str
    token: str
    sender: str
    """A number, or the SID of a messaging service."""
    callback: str
    """Where it tells of messages, as the world reaches us; empty: nowhere."""
    timeout_s: float

    def __repr__(self) -> str:
        return f"TwilioTerms({self.url})"


class TwilioProvider:
    """Twilio's API."""

    name = NAME
    channel = Channel.SMS

    def __init__(self, terms: TwilioTerms) -> None:
        self._terms = terms
        self._path = f"/2010-04-01/Accounts/{terms.account}/Messages.json"
        self._wire = Wire(NAME, terms.url, timeout_s=terms.timeout_s, auth=(terms.account, terms.token))

    async def send(self, parcel: Parcel) -> Taken:
        """Hand one text in. `PermanentError`, `TemporaryError`, `UnknownError`."""
        if not PHONE.fullmatch(parcel.recipient):
            raise PermanentError(Reason.INVALID, "the number is not in E.164")
        answer = await self._wire.ask(Ask(method="POST", path=self._path, form=self._form(parcel)))
        if answer.status >= 300:
            raise _refused(answer)
        text = answer.read(_Text)
        if text is None:
            raise UnknownError(say(NAME, f"its answer {answer.status} cannot be read"))
        return Taken(provider=NAME, reference=text.sid)

    async def find(self, parcel: Parcel, since_ms: int) -> list[Taken]:
        """Texts to this number with these words, taken since then. `TemporaryError`, `UnknownError`."""
        query = {"To": parcel.recipient, "PageSize": PAGE}  # `DateSent` would leave out what it has not sent yet
        answer = await self._wire.ask(Ask(method="GET", path=self._path, query=query))
        if answer.status >= 300:
            raise _refused(answer)
        texts = answer.read(_Texts)
        found = [] if texts is None else texts.messages
        return [
            Taken(provider=NAME, reference=each.sid)
            for each in found
            if each.body == parcel.content and _created_ms(each) >= since_ms - SKEW_MS
        ]

    async def close(self) -> None:
        """Let go of connections."""
        await self._wire.close()

    def _form(self, parcel: Parcel) -> Mapping[str, str]:
        sender = self._terms.sender
        kind = "MessagingServiceSid" if sender.startswith("MG") else "From"
        form = {"To": parcel.recipient, kind: sender, "Body": parcel.content}
        if self._terms.callback:
            form["StatusCallback"] = f"{self._terms.callback}?{MESSAGE}={quote(parcel.message_id, safe='')}"
        return form


def _created_ms(text: _Text) -> int:
    try:
        return round(parsedate_to_datetime(text.date_created).timestamp() * 1000)
    except (ValueError, TypeError):
        return 0


def _refused(answer: Answer) -> Exception:
    """What a refusal amounts to. An error without Twilio's own envelope may be a proxy's, which knows nothing."""
    refusal = answer.read(_Refusal)
    if refusal is None and answer.status >= 500 and answer.status != 503:
        return UnknownError(say(NAME, f"refused with {answer.status}"))
    code = 0 if refusal is None else refusal.code
    return Refused(status=answer.status, code=code, after_s=answer.retry_after_s(BUSY_AFTER_S)).error()


# What it tells later


def sign_callback(url: str, fields: Sequence[tuple[str, str]], token: str) -> str:
    """`X-Twilio-Signature`: the HMAC-SHA1 of the URL as Twilio was given it, and all names with their values in the
    order of the names."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), hashlib.sha1)).decode()


def is_signed(url: str, fields: Sequence[tuple[str, str]], signature: str, token: str) -> bool:
    """Whether whoever knows the token called this URL with these fields. An empty token signs nothing."""
    wanted = sign_callback(url, fields, token)
    return bool(token) & hmac.compare_digest(wanted.encode(), signature.encode())


def read_form(body: bytes) -> list[tuple[str, str]]:
    """A form as it was sent. `ValueError` for what is none."""
    if len(body) > BODY_BYTES_MAX:
        raise ValueError("too long")
    return parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=100)


def read_callback(url: str, fields: Sequence[tuple[str, str]]) -> Receipt | None:
    """What a status callback says; None for those that say nothing of a message's end. `ValueError` for what is no
    callback."""
    given = dict(fields)
    sid, status, code = (given.get(name, "") for name in ("MessageSid", "MessageStatus", "ErrorCode"))
    if not SID.fullmatch(sid) or not status:
        raise ValueError("no status callback of Twilio's")
    if status not in {"delivered", "undelivered", "failed"}:
        return None
    message_id = dict(parse_qsl(urlsplit(url).query)).get(MESSAGE, "")
    if status == "delivered":
        return Receipt(provider=NAME, reference=sid, state=State.DELIVERED, message_id=message_id)
    number = int(code) if code.isascii() and code.isdigit() and len(code) <= 6 else 0
    return Receipt(
        provider=NAME,
        reference=sid,
        state=State.BOUNCED if number in NEVER else State.FAILED,
        detail=f"{status} {number or ''}".strip(),
        code=str(number or ""),
        message_id=message_id,
        is_lasting=number in LASTING,
        again_after_s=LATER.get(number),
    )
