"""Resend as it speaks: one mail or a hundred at a time, idempotency keys, and webhooks signed as Svix signs them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from conveyor_apps.sandbox.clock import SandboxClock
from conveyor_apps.sandbox.provider import (
    Ask,
    Endpoint,
    Problem,
    ProblemError,
    Reply,
    Trouble,
    bearer_key,
    json_refusal,
    json_reply,
    read_body,
    refuse,
)
from conveyor_apps.sandbox.settings import ProviderName

from .courier import Courier, svix_call
from .ledger import Acceptance, Ledger, PostName
from .mishaps import CALM, Fate, Mishap, MishapBook

BATCH_MAX: Final = 100
RECIPIENTS_MAX: Final = 50
KEY_CHARS_MAX: Final = 256
KEY_LIFE_S: Final = 86_400

NAMES: Final = {
    400: ("validation_error", "The request was refused."),
    401: ("missing_api_key", "Missing API key in the authorization header."),
    403: ("invalid_api_key", "API key is invalid"),
    404: ("not_found", "The requested endpoint does not exist."),
    409: ("invalid_idempotent_request", "Same idempotency key used with a different request payload."),
    422: ("validation_error", "Invalid `to` field. The email address is not valid."),
    429: ("rate_limit_exceeded", "Too many requests. You can only make 5 requests per second."),
    500: ("application_error", "An unexpected error occurred."),
    503: ("service_unavailable", "The service is temporarily unavailable."),
}
STATUSES: Final = {
    Trouble.MISSING_KEY: 401,
    Trouble.WRONG_KEY: 403,
    Trouble.INVALID: 422,
    Trouble.TOO_LARGE: 413,
    Trouble.NOT_FOUND: 404,
    Trouble.RATE_LIMITED: 429,
    Trouble.QUOTA_LIMITED: 429,
    Trouble.FAILED: 500,
}
EVENTS: Final = {
    Fate.DELIVERED: "email.delivered",
    Fate.BOUNCED: "email.bounced",
    Fate.COMPLAINED: "email.complained",
    Fate.FAILED: "email.failed",
}


class Tag(msgspec.Struct, frozen=True):
    """A label that comes back with every event."""

    name: str
    value: str


class Mail(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A mail as it is asked for; a single recipient may come as plain text."""

    sender: str = ""
    to: str | list[str] = []
    subject: str = ""
    html: str = ""
    text: str = ""
    headers: dict[str, str] = {}
    tags: list[Tag] = []

    @property
    def recipients(self) -> list[str]:
        """Those it goes to."""
        return [self.to] if isinstance(self.to, str) else self.to


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Where events go, and what they are signed with."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One mail that was taken."""

    id: str
    mail: Mail
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An answer that is given again to the same key."""

    digest: bytes
    answer: object
    until_s: int


class Resend:
    """The carrier of mails by HTTP."""

    name = ProviderName.RESEND

    def __init__(self, clock: SandboxClock, ledger: Ledger, mishaps: MishapBook, courier: Courier) -> None:
        self._clock = clock
        self._ledger = ledger
        self._mishaps = mishaps
        self._courier = courier
        self._remembered: dict[str, Remembered] = {}
        self._sent: dict[str, Sent] = {}
        self._told = 0
        self.hook: Hook | None = None

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the Bearer key."""
        return bearer_key(headers)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        return (
            Endpoint(name="emails", method="POST", path="/emails", answer=self._send),
            Endpoint(name="batch", method="POST", path="/emails/batch", answer=self._send_batch),
            Endpoint(name="email", method="GET", path="/emails/{id}", answer=self._show),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no with a status and a name."""
        status = problem.status if problem.trouble is Trouble.FAILED else STATUSES[problem.trouble]
        name, message = NAMES.get(status, ("application_error", "The request was refused."))
        if problem.trouble is Trouble.QUOTA_LIMITED:
            name, message = "daily_quota_exceeded", "You have reached your daily email sending quota."
        if problem.code:
            name = problem.code
        body = {"statusCode": status, "name": name, "message": problem.message or message}
        headers = {"retry-after": str(problem.retry_after_s)} if status == 429 else {}
        return json_refusal(body, status=status, headers=headers)

    def tell(self, id: str, fate: Fate, code: str) -> None:
        """Report what became of a mail; `KeyError` if there is no such mail."""
        self._report(self._sent[id], [fate], code, delay_s=0)

    def reset(self) -> None:
        """Forget all mails and keys."""
        self._sent.clear()
        self._remembered.clear()

    def _send(self, ask: Ask) -> Reply:
        mail = read_body(ask.body, Mail)
        return self._answer(ask, [mail], lambda ids: {"id": ids[0]})

    def _send_batch(self, ask: Ask) -> Reply:
        mails = read_body(ask.body, list[Mail])
        if not 1 <= len(mails) <= BATCH_MAX:
            refuse(Trouble.INVALID, f"A batch has 1 to {BATCH_MAX} emails.")
        return self._answer(ask, mails, lambda ids: {"data": [{"id": each} for each in ids]})

    def _answer(self, ask: Ask, mails: Sequence[Mail], dress: Any) -> Reply:
        key = ask.headers.get("idempotency-key", "")
        if len(key) > KEY_CHARS_MAX:
            _refuse(400, "invalid_idempotency_key")
        digest = hashlib.sha256(ask.body).digest()
        known = self._remembered.get(key) if key else None
        if known is not None and known.until_s > self._clock.unix_s():
            if known.digest != digest:
                _refuse(409, "invalid_idempotent_request")
            return json_reply(known.answer)
        mishap = self._meet(mails, ask)
        answer = dress([self._take(mail, key, mishap) for mail in mails])
        if key:
            until_s = self._clock.unix_s() + KEY_LIFE_S
            self._remembered[key] = Remembered(digest=digest, answer=answer, until_s=until_s)
        return json_reply(answer).but(wait_s=mishap.delay_ms / 1000, is_cut=mishap.drop)

    def _meet(self, mails: Sequence[Mail], ask: Ask) -> Mishap:
        for mail in mails:
            if not mail.sender or not mail.recipients or not mail.subject or not (mail.html or mail.text):
                _refuse(422, "missing_required_field")
            if len(mail.recipients) > RECIPIENTS_MAX or any(_is_wrong(each) for each in mail.recipients):
                _refuse(422, "validation_error")
        met = [self._mishaps.take(PostName.RESEND, each) for mail in mails for each in mail.recipients]
        mishap = next((each for each in met if each != CALM), CALM)
        if mishap.refuse is not None:
            _refuse(mishap.refuse, mishap.name, retry_after_s=ask.faults.retry_after_s)
        return mishap

    def _take(self, mail: Mail, key: str, mishap: Mishap) -> str:
        number = self._ledger.next_number()
        digits = hashlib.md5(f"resend {number}".encode(), usedforsecurity=False).hexdigest()
        id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        now = self._clock.now().isoformat()
        self._ledger.enter(
            Acceptance(
                number=number,
                provider=PostName.RESEND,
                id=id,
                reference=key or f"mail {number} without a key",
                sender=mail.sender,
                recipients=tuple(mail.recipients),
                subject=mail.subject,
                text=mail.text,
                html=mail.html,
                at=now,
                is_answered=not mishap.drop,
                raw=b"",
            )
        )
        self._sent[id] = Sent(id=id, mail=mail, at=now)
        if mishap.fate is not Fate.SILENT:
            self._report(self._sent[id], [None, mishap.fate], mishap.code, delay_s=None)
        return id

    def _report(self, sent: Sent, fates: Sequence[Fate | None], code: str, *, delay_s: float | None) -> None:
        """Tell the hook, if there is one; None stands for `email.sent`."""
        if self.hook is None:
            return
        calls = []
        for fate in fates:
            self._told += 1
            event = "email.sent" if fate is None else EVENTS[fate]
            body = msgspec.json.encode({"type": event, "created_at": sent.at, "data": _data(sent, fate, code)})
            call_id = f"msg_sandbox{self._told:08d}"
            hook = self.hook
            calls.append(svix_call(hook.url, hook.secret, call_id=call_id, event=event, about=sent.id, body=body))
        self._courier.tell(calls, delay_s=delay_s)

    def _show(self, ask: Ask) -> Reply:
        sent = self._sent.get(ask.path["id"])
        if sent is None:
            refuse(Trouble.NOT_FOUND, "Email not found")
        mail = sent.mail
        shown = {"object": "email", "id": sent.id, "to": mail.recipients, "from": mail.sender, "subject": mail.subject}
        return json_reply({**shown, "html": mail.html, "text": mail.text, "created_at": sent.at})


def _is_wrong(address: str) -> bool:
    plain = address.rpartition("<")[2].removesuffix(">")
    local, at, domain = plain.partition("@")
    return not (local and at and domain) or any(sign.isspace() or sign == "@" for sign in local + domain)


def _refuse(status: int, name: str, *, retry_after_s: int = 1) -> None:
    """FAILED is the trouble whose status is free."""
    problem = Problem(trouble=Trouble.FAILED, status=status, code=name, retry_after_s=retry_after_s)
    raise ProblemError(problem)


def _data(sent: Sent, fate: Fate | None, code: str) -> Mapping[str, object]:
    mail = sent.mail
    data = {
        "email_id": sent.id,
        "created_at": sent.at,
        "from": mail.sender,
        "to": mail.recipients,
        "subject": mail.subject,
        "tags": {tag.name: tag.value for tag in mail.tags},
    }
    match fate:
        case Fate.BOUNCED:
            sub_type = code or "General"
            kind = "Transient" if sub_type in {"MailboxFull", "ContentRejected"} else "Permanent"
            bounce = {"type": kind, "subType": sub_type, "message": "The recipient's server sent it back."}
            return {**data, "bounce": bounce}
        case Fate.FAILED:
            return {**data, "failed": {"reason": code or "reached_daily_quota"}}
        case _:
            return data
