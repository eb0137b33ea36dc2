"""E-mail by SMTP, over TLS or not at all.

A mail's Message-ID is made of its key, so that it is the same at every attempt. What the server says to the recipient
and to the end of the mail is an answer; a connection that breaks between is one whose end nobody knows. What the client
raises names the recipient: nothing of it is handed on but codes and names of errors.
"""

import asyncio
import contextlib
import email.errors
import email.policy
import functools
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final, cast
from urllib.parse import unquote, urlsplit

import aiosmtplib

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import PermanentError, Reason, SettingError, TemporaryError, UnknownError
from conveyor_apps.concierge.words import Channel

from .parcel import Parcel, Taken
from .trouble import ProviderDownError, say

STARTTLS_PORT: Final = 587
TLS_PORT: Final = 465
ADDRESS_CHARS_MAX: Final = 254
SPECIAL: Final = frozenset(' ,;:<>()[]"\\')
"""Signs that an address may quote, and nobody's has; lists and headers are made of them."""
LOCAL_CHARS_MAX: Final = 64
CLOSE_S_MAX: Final = 2.0
MAILBOX_AFTER_S: Final = 900.0
"""A full or busy mailbox is not empty a minute later."""
BLOCKING: Final = frozenset({554})
"""Refused by a rule of the recipient's server."""
ADDRESSING: Final = frozenset({501, 510, 511, 550, 551, 553, 556})
MISSING: Final = frozenset({510, 511, 550, 551, 556})
"""Said to the recipient alone, these are of a mailbox that is not there; said to the mail, of what is in it."""
POLICY: Final = "5.7."
"""With this extended code the server minds who we are, and not who the recipient is."""

NowMs = Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MailHost:
    """Where mail is handed in."""

    hostname: str
    port: int
    is_tls: bool
    """From the first byte; else by STARTTLS, without which nothing is said."""
    user: str
    password: str
    sender: str
    timeout_s: float
    context: ssl.SSLContext

    def __repr__(self) -> str:
        return f"MailHost({self.hostname}:{self.port})"


def read_mail_host(url: str, *, sender: str, timeout_s: float, authority: str = "") -> MailHost:
    """`smtp://user:password@host:587` or `smtps://...:465`; `authority` is a file of certificates to trust beside the
    system's. `SettingError`, which does not repeat the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingError("environment: `SMTP_URL` is no URL") from None
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or not (parts.username and parts.password):
        raise SettingError("environment: `SMTP_URL` must be `smtp://user:password@host` or `smtps://...`")
    is_tls = parts.scheme == "smtps"
    return MailHost(
        hostname=parts.hostname,
        port=port or (TLS_PORT if is_tls else STARTTLS_PORT),
        is_tls=is_tls,
        user=unquote(parts.username),
        password=unquote(parts.password),
        sender=sender,
        timeout_s=timeout_s,
        context=_trust(authority),
    )


@functools.cache
def _trust(authority: str) -> ssl.SSLContext:
    """The certificates to trust: reading them takes longer than a mail. `SettingError`."""
    context = ssl.create_default_context()
    if authority:
        try:
            context.load_verify_locations(cafile=authority)
        except OSError as error:
            raise SettingError(f"environment: `SMTP_CA` cannot be read: {error.strerror or error}") from None
    return context


class SmtpProvider:
    """One mail server; each mail has a connection of its own."""

    channel = Channel.EMAIL

    def __init__(self, host: MailHost, *, name: str = "smtp", now_ms: NowMs = clock.now_ms) -> None:
        self.name = name
        self._host = host
        self._now_ms = now_ms

    async def send(self, parcel: Parcel) -> Taken:
        """Hand one mail in. `PermanentError`, `TemporaryError`, `UnknownError`."""
        mail = write_mail(parcel, sender=self._host.sender, now_ms=self._now_ms())
        data = mail.as_bytes(policy=email.policy.SMTP)
        async with self._connected() as client:
            await self._address(client, parcel.recipient)
            await self._hand_in(client, data)
        return Taken(provider=self.name, reference=str(mail["message-id"]))

    async def find(self, parcel: Parcel, since_ms: int) -> list[Taken]:
        """SMTP cannot be asked."""
        return []

    async def close(self) -> None:
        """There is nothing to let go of."""

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A client that has been let in, over TLS. `ProviderDownError`."""
        host = self._host
        client = _Client(
            hostname=host.hostname,
            port=host.port,
            use_tls=host.is_tls,
            start_tls=not host.is_tls,
            username=host.user,
            password=host.password,
            tls_context=host.context,
            timeout=host.timeout_s,
        )
        try:
            try:
                async with asyncio.timeout(host.timeout_s):
                    await client.connect()
            except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
                raise ProviderDownError(self.name, f"no connection: {_name(error)}") from None
            yield client
            await _take_leave(client)
        finally:
            client.close()

    async def _address(self, client: aiosmtplib.SMTP, recipient: str) -> None:
        """Say from whom and to whom: until here the server has nothing."""
        try:
            async with asyncio.timeout(self._host.timeout_s):
                await client.mail(self._host.sender)
                await client.rcpt(recipient)
        except aiosmtplib.SMTPRecipientRefused as error:
            is_policy = error.message.startswith(POLICY)
            raise self._refused(error.code, is_lasting=error.code in MISSING and not is_policy) from None
        except aiosmtplib.SMTPSenderRefused as error:
            raise ProviderDownError(self.name, f"our sender is refused with {error.code}") from None
        except aiosmtplib.SMTPResponseException as error:
            raise self._refused(error.code) from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise ProviderDownError(self.name, f"connection lost: {_name(error)}") from None

    async def _hand_in(self, client: aiosmtplib.SMTP, data: bytes) -> None:
        """Say what: where the answer to that is lost, the server may have the mail."""
        try:
            async with asyncio.timeout(self._host.timeout_s):
                await client.data(data)
        except aiosmtplib.SMTPResponseException as error:
            raise self._refused(error.code) from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise UnknownError(say(self.name, f"no answer to the mail: {_name(error)}")) from None

    def _refused(self, code: int, *, is_lasting: bool = False) -> PermanentError | TemporaryError:
        words = say(self.name, f"refused with {code}")
        if code in {421, 454} or code < 400:
            return ProviderDownError(self.name, f"refused with {code}")
        if code < 500:
            return TemporaryError(words, after_s=MAILBOX_AFTER_S if code in {450, 452} else None)
        if code in {530, 535, 538}:
            return ProviderDownError(self.name, f"does not let us in: {code}")
        if code in ADDRESSING:
            return PermanentError(Reason.INVALID, words, is_lasting=is_lasting)
        return PermanentError(Reason.BLOCKED if code in BLOCKING else Reason.REFUSED, words)


def write_mail(parcel: Parcel, *, sender: str, now_ms: int) -> EmailMessage:
    """A parcel as a mail. `PermanentError` for an address or a subject that could be read as more than itself."""
    mail = EmailMessage(policy=email.policy.SMTP)
    try:
        mail["From"] = read_address(sender)
        mail["To"] = read_address(parcel.recipient)
    except ValueError as error:
        raise PermanentError(Reason.INVALID, f"the address cannot be written into a mail: {error}") from None
    try:
        mail["Subject"] = parcel.subject
    except ValueError:
        raise PermanentError(Reason.REFUSED, "the subject has more than one line") from None
    mail["Message-ID"] = message_id_of(parcel.key, sender)
    mail["Date"] = format_datetime(clock.moment(now_ms))
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(parcel.content, charset="utf-8", cte="quoted-printable")
    return mail


def read_address(text: str) -> Address:
    """One plain address. `ValueError`, which does not repeat it."""
    local, _, domain = text.rpartition("@")
    if not text.isascii() or not text.isprintable() or len(text) > ADDRESS_CHARS_MAX or len(local) > LOCAL_CHARS_MAX:
        raise ValueError("too long, or no plain ASCII")
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, email.errors.MessageError):
        raise ValueError("not of the form name@domain") from None
    is_plain = not set(text) & SPECIAL and (address.username, address.domain) == (local, domain)
    if not is_plain or not local or not domain:
        raise ValueError("not one plain address")
    return address


def message_id_of(key: str, sender: str) -> str:
    """The Message-ID of what has this key: the same every time, and saying nothing."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{sender.rpartition('@')[2]}>"


class _Client(aiosmtplib.SMTP):
    """Closes at once: a TLS connection that is closed politely waits for the other side, long after nobody cares."""

    def close(self) -> None:
        transport = self.transport
        super().close()
        if transport is not None:
            cast("asyncio.WriteTransport", transport).abort()


async def _take_leave(client: aiosmtplib.SMTP) -> None:
    """Politely; the mail is where it is, whatever the server says to that."""
    with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_S_MAX):
            await client.quit()


def _name(error: BaseException) -> str:
    code = getattr(error, "code", None)
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"
