"""Twilio as it speaks: text messages, their state, and callbacks that tell of it."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from conveyor_apps.sandbox.clock import SandboxClock, wall_s
from conveyor_apps.sandbox.provider import (
    Ask,
    Endpoint,
    Problem,
    ProblemError,
    Reply,
    Trouble,
    json_refusal,
    json_reply,
    refuse,
)
from conveyor_apps.sandbox.settings import ProviderName

from .courier import Courier, is_callable, twilio_call
from .ledger import Acceptance, Ledger, PostName
from .mishaps import Fate, Mishap, MishapBook

BODY_CHARS_MAX: Final = 1_600
SEGMENT_CHARS: Final = 153
PAGE_MAX: Final = 1_000
ACCOUNT: Final = "/2010-04-01/Accounts/{account}"
PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")
SENDER: Final = re.compile(r"\+[1-9][0-9]{6,14}|[A-Za-z0-9 ]{1,11}")
FAILED_CODE: Final = "30008"
MORE: Final = "https://www.twilio.com/docs/errors"

WORDS: Final = {
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    20503: (503, "Service unavailable"),
    21211: (400, "The 'To' number is not a valid phone number."),
    21408: (400, "Permission to send an SMS has not been enabled for the region indicated by the 'To' number."),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' phone number is required."),
    21604: (400, "A 'To' phone number is required."),
    21609: (400, "The 'StatusCallback' URL is not valid."),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
}
CODES: Final = {
    Trouble.MISSING_KEY: 20003,
    Trouble.WRONG_KEY: 20003,
    Trouble.INVALID: 21602,
    Trouble.TOO_LARGE: 21617,
    Trouble.NOT_FOUND: 20404,
    Trouble.RATE_LIMITED: 20429,
    Trouble.QUOTA_LIMITED: 20429,
    Trouble.FAILED: 20500,
}


@dataclass(slots=True, kw_only=True)
class Text:
    """One text message that was taken."""

    sid: str
    account: str
    token: str
    to: str
    sender: str
    body: str
    callback: str
    created: str
    fate: Fate
    status: str = "queued"
    error: int | None = None
    states: list[tuple[str, int | None]] = field(default_factory=list)


class Twilio:
    """The carrier of text messages."""

    name = ProviderName.TWILIO

    def __init__(self, clock: SandboxClock, ledger: Ledger, mishaps: MishapBook, courier: Courier) -> None:
        self._clock = clock
        self._ledger = ledger
        self._mishaps = mishaps
        self._courier = courier
        self._texts: dict[str, Text] = {}

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the token from the Basic credentials; the account is their name."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        try:
            _, _, token = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return token if scheme.lower() == "basic" else None

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        messages = f"{ACCOUNT}/Messages.json"
        return (
            Endpoint(name="messages", method="POST", path=messages, answer=self._create),
            Endpoint(name="messages", method="GET", path=messages, answer=self._list),
            Endpoint(name="message", method="GET", path=ACCOUNT + "/Messages/{sid}.json", answer=self._show),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no with one of Twilio's codes."""
        code = int(problem.code) if problem.code else CODES[problem.trouble]
        if problem.trouble is Trouble.FAILED and not problem.code:
            code = {500: 20500, 503: 20503}.get(problem.status, 20500)
        status, message = WORDS.get(code, (400, "The message was refused."))
        if problem.trouble is Trouble.FAILED and not problem.code:
            status = problem.status
        body = {"code": code, "message": problem.message or message, "more_info": f"{MORE}/{code}", "status": status}
        headers = {"Retry-After": str(problem.retry_after_s)} if status == 429 else {}
        return json_refusal(body, status=status, headers=headers)

    def tell(self, sid: str, fate: Fate, code: str) -> None:
        """Report another state of a message; `KeyError` if there is no such message."""
        self._report(self._texts[sid], [_state(fate, code)], delay_s=0)

    def reset(self) -> None:
        """Forget all texts."""
        self._texts.clear()

    def _create(self, ask: Ask) -> Reply:
        form = {name: values[-1] for name, values in parse_qs(ask.body.decode("utf-8", "replace")).items()}
        to, sender, body, callback = (form.get(name, "") for name in ("To", "From", "Body", "StatusCallback"))
        sender = sender or form.get("MessagingServiceSid", "")
        _check(to=to, sender=sender, body=body, callback=callback)
        mishap = self._mishaps.take(PostName.TWILIO, to)
        if mishap.refuse is not None:
            _refuse(mishap.refuse, ask)
        text = self._take(ask, mishap, to=to, sender=sender, body=body, callback=callback)
        return json_reply(_shown(text)).but(status=201, wait_s=mishap.delay_ms / 1000, is_cut=mishap.drop)

    def _take(self, ask: Ask, mishap: Mishap, *, to: str, sender: str, body: str, callback: str) -> Text:
        number = self._ledger.next_number()
        sid = "SM" + hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
        now = self._clock.now()
        text = Text(
            sid=sid,
            account=ask.path["account"],
            token=ask.key,
            to=to,
            sender=sender,
            body=body,
            callback=callback,
            created=formatdate(wall_s()),  # held against the clock of whoever asks for it
            fate=mishap.fate,
        )
        self._texts[sid] = text
        self._ledger.enter(
            Acceptance(
                number=number,
                provider=PostName.TWILIO,
                id=sid,
                reference=callback or f"{to} {body}",
                sender=sender,
                recipients=(to,),
                subject="",
                text=body,
                html="",
                at=now.isoformat(),
                is_answered=not mishap.drop,
                raw=b"",
            )
        )
        if mishap.fate is not Fate.SILENT:
            self._report(text, [("sent", None), _state(mishap.fate, mishap.code)], delay_s=None)
        return text

    def _report(self, text: Text, states: list[tuple[str, int | None]], *, delay_s: float | None) -> None:
        text.states += states
        text.status, text.error = states[-1]
        if text.callback:
            calls = [twilio_call(text.callback, _fields(text, *state), token=text.token) for state in states]
            self._courier.tell(calls, delay_s=delay_s)

    def _show(self, ask: Ask) -> Reply:
        text = self._texts.get(ask.path["sid"])
        if text is None or text.account != ask.path["account"]:
            refuse(Trouble.NOT_FOUND)
        return json_reply(_shown(text))

    def _list(self, ask: Ask) -> Reply:
        """List the newest first; `To` and `From` narrow it down, all in one page."""
        account, to, sender = ask.path["account"], ask.query.get("To"), ask.query.get("From")
        found = [
            _shown(each)
            for each in reversed(self._texts.values())
            if each.account == account and to in (None, each.to) and sender in (None, each.sender)
        ][:PAGE_MAX]
        page = {"page": 0, "page_size": PAGE_MAX, "start": 0, "end": max(0, len(found) - 1)}
        path = f"/2010-04-01/Accounts/{account}/Messages.json"
        uris = {"uri": path, "first_page_uri": path, "next_page_uri": None, "previous_page_uri": None}
        return json_reply({"messages": found, **page, **uris})


def _check(*, to: str, sender: str, body: str, callback: str) -> None:
    code = 0
    if not to:
        code = 21604
    elif not sender:
        code = 21603
    elif not PHONE.fullmatch(to):
        code = 21211
    elif not body:
        code = 21602
    elif len(body) > BODY_CHARS_MAX:
        code = 21617
    elif callback and not is_callable(callback):
        code = 21609
    if code:
        raise ProblemError(Problem(trouble=Trouble.INVALID, code=str(code)))


def _refuse(code: int, ask: Ask) -> None:
    status, _ = WORDS.get(code, (400, ""))
    kinds = {429: Trouble.RATE_LIMITED, 500: Trouble.FAILED, 503: Trouble.FAILED}
    trouble = kinds.get(status, Trouble.INVALID)
    raise ProblemError(Problem(trouble=trouble, code=str(code), retry_after_s=ask.faults.retry_after_s))


def _state(fate: Fate, code: str) -> tuple[str, int | None]:
    if fate is Fate.DELIVERED:
        return "delivered", None
    return ("failed" if fate is Fate.FAILED else "undelivered"), int(code or FAILED_CODE)


def _fields(text: Text, status: str, error: int | None) -> Mapping[str, str]:
    fields = {
        "AccountSid": text.account,
        "ApiVersion": "2010-04-01",
        "From": text.sender,
        "MessageSid": text.sid,
        "MessageStatus": status,
        "SmsSid": text.sid,
        "SmsStatus": status,
        "To": text.to,
    }
    return fields if error is None else {**fields, "ErrorCode": str(error)}


def _shown(text: Text) -> Mapping[str, object]:
    uri = f"/2010-04-01/Accounts/{text.account}/Messages/{text.sid}"
    return {
        "account_sid": text.account,
        "api_version": "2010-04-01",
        "body": text.body,
        "date_created": text.created,
        "date_sent": None if text.status == "queued" else text.created,
        "date_updated": text.created,
        "direction": "outbound-api",
        "error_code": text.error,
        "error_message": None if text.error is None else "The message was not delivered",
        "from": text.sender,
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": str(-(-len(text.body) // SEGMENT_CHARS)),
        "price": None,
        "price_unit": "USD",
        "sid": text.sid,
        "status": text.status,
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": text.to,
        "uri": f"{uri}.json",
    }
