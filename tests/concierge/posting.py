"""A sandbox that takes messages, and concierge's providers pointed at it; for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx2

from conveyor import Limiter
from conveyor_apps.concierge.providers import Parcel
from conveyor_apps.concierge.settings import ProviderSettings, Settings
from conveyor_apps.concierge.words import Channel
from conveyor_apps.sandbox import SandboxSettings, serving
from conveyor_apps.secret import Secret

SENDER: Final = "clinic@clinic.test"
ACCOUNT: Final = "AC" + "1" * 32
TOKEN: Final = "twilio-token"  # noqa: S105  # the sandbox takes any
NUMBER: Final = "+491701234567"
TIMEOUT_S: Final = 20


@dataclass(frozen=True, slots=True)
class PostOffice:
    """The sandbox, and the settings that lead to it."""

    url: str
    settings: Settings
    http: httpx2.Client

    def strike(self, provider: str, *mishaps: dict[str, Any]) -> None:
        """What befalls messages from now on."""
        self.http.put(f"/admin/mishaps/{provider}", json=list(mishaps)).raise_for_status()

    def accepted(self, provider: str) -> list[dict[str, Any]]:
        """What a provider took, whether it said so or not."""
        found = self.http.get("/admin/accepted", params={"provider": provider}).json()
        return [dict(each) for each in found["accepted"]]

    def duplicates(self) -> dict[str, dict[str, int]]:
        """What came more than once."""
        return dict(self.http.get("/admin/accepted").json()["duplicates"])

    def calm(self) -> None:
        """Forget everything."""
        self.http.delete("/admin/accepted").raise_for_status()
        for name in ("smtp", "resend", "twilio"):
            self.http.delete(f"/admin/mishaps/{name}").raise_for_status()
        for name in ("resend", "twilio"):
            self.http.delete(f"/admin/faults/{name}").raise_for_status()

    def but(self, **changes: Any) -> Settings:
        """The settings with other providers."""
        return replace(self.settings, providers=replace(self.settings.providers, **changes))


@contextmanager
def open_post_office(folder: Path) -> Iterator[PostOffice]:
    """A sandbox for the length of the block."""
    with serving(SandboxSettings(smtp_port=0, receipt_delay_ms=0)) as url, httpx2.Client(base_url=url, timeout=60) as http:
        smtp = http.get("/admin/mail").json()["smtp"]
        authority = folder / "sandbox-ca.pem"
        authority.write_bytes(http.get("/admin/ca.pem").content)
        providers = ProviderSettings(
            smtp_url=Secret(f"smtp://user:p%40ss@{smtp['host']}:{smtp['starttls']}"),
            smtp_ca=str(authority),
            sender=SENDER,
            resend_url=f"{url}/resend",
            resend_key=Secret("re_1"),
            twilio_url=f"{url}/twilio",
            twilio_account=ACCOUNT,
            twilio_token=Secret(TOKEN),
            twilio_sender="+15005550006",
            timeout_s=TIMEOUT_S,
        )
        yield PostOffice(url, Settings(data=folder, providers=providers), http)


def no_limiter(name: str, rate: str) -> Limiter:
    """For providers without rates."""
    raise AssertionError(f"nobody set a rate, but {name} is to have {rate}")


def email_to(recipient: str, key: str = "m1.1", *, once: bool = False, subject: str = "Termin Ä") -> Parcel:
    """An e-mail."""
    return Parcel(
        message_id=key.partition(".")[0], channel=Channel.EMAIL, recipient=recipient, subject=subject,
        content="Grüße\n.\nBis morgen.\n", key=key, once=once,
    )  # fmt: skip


def text_to(recipient: str = NUMBER, key: str = "m1.1", *, once: bool = False, content: str = "Bis morgen.") -> Parcel:
    """A text message."""
    return Parcel(
        message_id=key.partition(".")[0], channel=Channel.SMS, recipient=recipient, subject="", content=content,
        key=key, once=once,
    )  # fmt: skip
