"""The post as a whole: its parts, its side door, and what is open while the sandbox is."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conveyor_apps.sandbox.admin import answer_json, body_as, read_body
from conveyor_apps.sandbox.clock import SandboxClock
from conveyor_apps.sandbox.errors import SandboxSettingError
from conveyor_apps.sandbox.gate import Sleep
from conveyor_apps.sandbox.provider import Provider
from conveyor_apps.sandbox.settings import SandboxSettings

from .courier import SECRET_PREFIX, Courier, is_callable
from .inbox import Inbox
from .ledger import Ledger, PostName
from .mishaps import Fate, MishapBook, read_mishaps
from .resend import Hook, Resend
from .twilio import Twilio

if TYPE_CHECKING:
    from .smtp import MailPorts, MailServer

FATES: Final = {
    PostName.TWILIO: {Fate.DELIVERED, Fate.FAILED, Fate.BOUNCED},
    PostName.RESEND: {Fate.DELIVERED, Fate.FAILED, Fate.BOUNCED, Fate.COMPLAINED},
}


class HookBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Resend's events go."""

    url: str
    secret: str


class ReceiptBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be reported of a message now."""

    provider: PostName
    id: str
    fate: Fate
    code: str = ""


class Post:
    """Mail and text messages."""

    def __init__(self, settings: SandboxSettings, clock: SandboxClock, sleep: Sleep) -> None:
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._authority = b""
        self._ports: MailPorts | None = None
        self.ledger = Ledger()
        self.mishaps = MishapBook()
        self._server = self._new_server()
        self.courier = Courier(sleep, delay_s=settings.receipt_delay_ms / 1000)
        self.twilio = Twilio(clock, self.ledger, self.mishaps, self.courier)
        self.resend = Resend(clock, self.ledger, self.mishaps, self.courier)

    def providers(self) -> list[Provider]:
        """List those who speak HTTP."""
        return [self.twilio, self.resend]

    def routes(self) -> list[BaseRoute]:
        """List the side door's addresses, to stand before `/admin`, and the inbox."""
        admin = [
            Route("/admin/mail", self._show_mail, methods=["GET"]),
            Route("/admin/ca.pem", self._show_authority, methods=["GET"]),
            Route("/admin/accepted", self._show_accepted, methods=["GET"]),
            Route("/admin/accepted", self._forget_accepted, methods=["DELETE"]),
            Route("/admin/mishaps", self._show_mishaps, methods=["GET"]),
            Route("/admin/mishaps/{provider}", self._put_mishaps, methods=["PUT"]),
            Route("/admin/mishaps/{provider}", self._clear_mishaps, methods=["DELETE"]),
            Route("/admin/hooks/resend", self._put_hook, methods=["PUT"]),
            Route("/admin/receipts", self._tell, methods=["POST"]),
            Route("/admin/receipts", self._show_told, methods=["GET"]),
        ]
        return [*admin, *Inbox(self.ledger).routes()]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen for mail, if a port is set, and carry receipts, for the length of the block."""
        try:
            if self._server is not None:
                self._ports = await self._server.open(self._settings.host, self._settings.smtp_port or 0)
            yield
        finally:
            self._ports = None
            if self._server is not None:
                await self._server.close()
            await self.courier.close()

    def _new_server(self) -> "MailServer | None":
        if self._settings.smtp_port is None:
            return None
        try:
            from .smtp import Desk, MailServer
        except ModuleNotFoundError as error:
            hint = "pip install 'conveyor[sandbox]'"
            raise SandboxSettingError(
                "smtp_port", problem="needs aiosmtpd, which is not installed", hint=hint
            ) from error
        from .certificate import make_certificate

        certificate = make_certificate() if self._settings.smtp_tls else None
        self._authority = certificate.authority_pem if certificate else b""
        desk = Desk(self.ledger, self.mishaps, lambda: self._clock.now().isoformat(), self._sleep)
        return MailServer(desk, certificate)

    async def _show_mail(self, request: Request) -> Response:
        ports = None if self._ports is None else {"host": self._settings.host, **asdict(self._ports)}
        return answer_json({"smtp": ports, "inbox": "/inbox"})

    async def _show_authority(self, request: Request) -> Response:
        status = 200 if self._authority else 404
        return Response(self._authority, status_code=status, media_type="application/x-pem-file")

    async def _show_accepted(self, request: Request) -> Response:
        name = request.query_params.get("provider")
        found = self.ledger.of(None if name is None else _post_name(name))
        hidden = {"raw", "html"}
        rows = [{name: getattr(each, name) for name in each.__struct_fields__ if name not in hidden} for each in found]
        return answer_json({"counts": self.ledger.counts(), "duplicates": self.ledger.duplicates(), "accepted": rows})

    async def _forget_accepted(self, request: Request) -> Response:
        self.ledger.reset()
        self.twilio.reset()
        self.resend.reset()
        return Response(status_code=204)

    async def _show_mishaps(self, request: Request) -> Response:
        return answer_json(self.mishaps.shown())

    async def _put_mishaps(self, request: Request) -> Response:
        provider = _post_name(request.path_params["provider"])
        mishaps = read_mishaps(await read_body(request))
        self.mishaps.put(provider, mishaps)
        return answer_json(mishaps)

    async def _clear_mishaps(self, request: Request) -> Response:
        self.mishaps.put(_post_name(request.path_params["provider"]), [])
        return Response(status_code=204)

    async def _put_hook(self, request: Request) -> Response:
        hook = body_as(await read_body(request), HookBody)
        if not is_callable(hook.url):
            raise SandboxSettingError("url", problem="is not on this machine")
        if not hook.secret.startswith(SECRET_PREFIX):
            raise SandboxSettingError("secret", problem="does not begin with `whsec_`")
        self.resend.hook = Hook(url=hook.url, secret=hook.secret)
        return Response(status_code=204)

    async def _tell(self, request: Request) -> Response:
        receipt = body_as(await read_body(request), ReceiptBody)
        if receipt.fate not in FATES.get(receipt.provider, set()):
            raise SandboxSettingError("fate", problem=f"`{receipt.fate}` is nothing that {receipt.provider} tells")
        teller = self.twilio if receipt.provider is PostName.TWILIO else self.resend
        try:
            teller.tell(receipt.id, receipt.fate, receipt.code)
        except KeyError:
            raise SandboxSettingError("id", problem=f"`{receipt.id}` is no message") from None
        return Response(status_code=202)

    async def _show_told(self, request: Request) -> Response:
        return answer_json({"told": list(self.courier.told)})


def _post_name(name: str) -> PostName:
    try:
        return PostName(name)
    except ValueError:
        hint = "they are: " + ", ".join(PostName)
        raise SandboxSettingError("provider", problem=f"`{name}` takes no messages", hint=hint) from None
