"""A mail server: STARTTLS on one port, TLS on another, AUTH on both; what it takes lies in the inbox."""

import asyncio
import contextlib
import email
import email.policy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from conveyor_apps.sandbox.gate import WRONG_KEY, Sleep

from .certificate import Certificate
from .ledger import Acceptance, Ledger, PostName
from .mishaps import CALM, Mishap, MishapBook, Moment

HOSTNAME: Final = "mail.sandbox.test"
MAIL_BYTES_MAX: Final = 10_485_760
IDLE_S_MAX: Final = 60.0
WORDS: Final = {
    421: "4.3.2 Service not available, closing transmission channel",
    450: "4.2.1 Mailbox temporarily unavailable",
    451: "4.3.0 Local error in processing",
    452: "4.2.2 Mailbox full",
    550: "5.1.1 No such user here",
    551: "5.1.6 User has moved",
    552: "5.2.2 Mailbox full",
    553: "5.1.3 Mailbox name not allowed",
    554: "5.7.1 Message refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailPorts:
    """Where it listens."""

    starttls: int
    tls: int | None
    """None where it has no certificate to show."""


class Desk:
    """Says yes or no, and enters what it took. aiosmtpd finds its methods by their names."""

    def __init__(self, ledger: Ledger, mishaps: MishapBook, now: Callable[[], str], sleep: Sleep) -> None:
        self._ledger = ledger
        self._mishaps = mishaps
        self._now = now
        self._sleep = sleep
        self._fates: WeakKeyDictionary[Envelope, list[Mishap]] = WeakKeyDictionary()

    async def handle_RCPT(  # noqa: N802  # aiosmtpd looks for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse a recipient, or note what is to befall the mail."""
        mishap = self._mishaps.take(PostName.SMTP, address)
        if mishap.refuse is not None and mishap.moment is Moment.RCPT:
            return _refusal(mishap.refuse)
        self._fates.setdefault(envelope, []).append(mishap)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # the same
        """Take the mail, unless it is to be refused now; answer late, or never."""
        fates = self._fates.pop(envelope, [])
        struck = next((each for each in fates if each != CALM), CALM)
        if struck.refuse is not None:
            return _refusal(struck.refuse)
        acceptance = self._read(envelope, is_answered=not struck.drop)
        self._ledger.enter(acceptance)
        if struck.delay_ms:
            await self._sleep(struck.delay_ms / 1000)
        if struck.drop:
            _cut(server)
        return f"250 2.0.0 OK: queued as {acceptance.id}"

    def _read(self, envelope: Envelope, *, is_answered: bool) -> Acceptance:
        raw = envelope.original_content or b""
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        number = self._ledger.next_number()
        return Acceptance(
            number=number,
            provider=PostName.SMTP,
            id=f"{number:08X}",
            reference=str(mail["message-id"] or f"mail {number} without a Message-ID").strip(),
            sender=envelope.mail_from or "",
            recipients=tuple(envelope.rcpt_tos),
            subject=str(mail["subject"] or ""),
            text=_part(mail, "plain"),
            html=_part(mail, "html"),
            at=self._now(),
            is_answered=is_answered,
            raw=raw,
        )


class MailServer:
    """Listens on loopback for as long as it is open."""

    def __init__(self, desk: Desk, certificate: Certificate | None) -> None:
        self._desk = desk
        self._certificate = certificate
        self._servers: list[asyncio.Server] = []
        self._sessions: WeakSet[SMTP] = WeakSet()

    async def open(self, host: str, port: int) -> MailPorts:
        """Begin to listen: on `port` with STARTTLS, on any other with TLS from the first byte."""
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # it warns of its own deprecations at every login
        loop = asyncio.get_running_loop()
        starttls = await loop.create_server(lambda: self._greet(is_tls=False), host, port)
        self._servers.append(starttls)
        if self._certificate is None:
            return MailPorts(starttls=_port(starttls), tls=None)
        context = self._certificate.context
        tls = await loop.create_server(lambda: self._greet(is_tls=True), host, 0, ssl=context)
        self._servers.append(tls)
        return MailPorts(starttls=_port(starttls), tls=_port(tls))

    async def close(self) -> None:
        """Stop listening and hang up."""
        for server in self._servers:
            server.close()
        for session in list(self._sessions):
            _cut(session)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _greet(self, *, is_tls: bool) -> SMTP:
        context = None if is_tls or self._certificate is None else self._certificate.context
        session = SMTP(
            self._desk,
            hostname=HOSTNAME,
            ident="sandbox",
            data_size_limit=MAIL_BYTES_MAX,
            timeout=IDLE_S_MAX,
            tls_context=context,
            require_starttls=context is not None,
            auth_required=True,
            authenticator=_authenticate,
            loop=asyncio.get_running_loop(),
        )
        session._auth_require_tls = not is_tls  # noqa: SLF001  # it cannot see the TLS that asyncio did before it
        self._sessions.add(session)
        return session


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    """Let everybody in but the holder of the wrong key."""
    is_wrong = not isinstance(data, LoginPassword) or data.password == WRONG_KEY.encode()
    return AuthResult(success=not is_wrong, handled=False)


def _refusal(code: int) -> str:
    digit = 4 if code < 500 else 5
    return f"{code} {WORDS.get(code, f'{digit}.0.0 Refused')}"


def _cut(session: SMTP) -> None:
    if isinstance(session.transport, asyncio.WriteTransport):
        session.transport.abort()


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def _part(mail: EmailMessage, kind: str) -> str:
    """One kind of a mail's text; nothing if it has none, or says of itself what is not so."""
    with contextlib.suppress(LookupError, ValueError, KeyError, AttributeError):
        part = mail.get_body(preferencelist=(kind,))
        return "" if part is None else str(part.get_content())
    return ""
