"""What concierge is told by its environment, read once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from conveyor_apps.environment import Environment
from conveyor_apps.secret import Secret

from .errors import SettingError
from .words import Unknown

QUEUE: Final = "message-delivery"
DEAD: Final = "dlq"
ALERTS: Final = "concierge-alerts"
BUCKET: Final = "CONCIERGE_EXPORTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """Who carries messages away. A provider whose settings are empty is not used."""

    smtp_url: Secret = field(default_factory=Secret)
    """`smtp://user:password@host:587` with STARTTLS, `smtps://…:465` with TLS from the start."""
    sender: str = "concierge@localhost"
    """The address that e-mail comes from."""
    resend_url: str = "https://api.resend.com"
    resend_key: Secret = field(default_factory=Secret)
    resend_webhook_secret: Secret = field(default_factory=Secret)
    twilio_url: str = "https://api.twilio.com"
    twilio_account: str = ""
    twilio_token: Secret = field(default_factory=Secret)
    twilio_sender: str = ""
    timeout_s: int = 30
    smtp_ca: str = ""
    """A file of certificates to trust beside the system's, for a mail server with its own authority."""
    order: tuple[str, ...] = ("smtp", "resend", "twilio")
    """Who is asked first; who is not named here is not asked."""
    unknown: Unknown = Unknown.SAME
    smtp_rate: str = ""
    """Calls of this provider, over all processes, as in `2/s` or `100/m`; empty: as many as come."""
    resend_rate: str = ""
    twilio_rate: str = ""
    circuit_failures: int = 5
    circuit_open_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingSettings:
    """For how long things stay."""

    audit_days: int = 2_190
    """Six years."""
    message_days: int = 90
    temp_hours: int = 24
    link_hours: int = 24
    """How long the link of an export lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Who is told how it goes."""

    sentry_dsn: Secret = field(default_factory=Secret)
    traces_percent: int = 100
    """Of the attempts of jobs, how many Sentry is sent a trace of."""
    alert_webhook: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskSettings:
    """How people come in."""

    public_url: str = "http://127.0.0.1:8787"
    """How browsers and providers reach us; with https cookies are `__Host-` ones."""
    idle_minutes: int = 30
    session_hours: int = 12
    rate: int = 120
    """Requests a minute of one person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that may differ between two installations."""

    data: Path = Path("concierge-data")
    """Concierge's own tables where the queue's store has no file for them, and what is temporary."""
    workers: int = 10
    """Messages at a time, over all processes."""
    retry_s: float = 120
    """Before the second attempt; each further one takes twice as long: 2^attempt minutes."""
    desk: DeskSettings = field(default_factory=DeskSettings)
    providers: ProviderSettings = field(default_factory=ProviderSettings)
    keeping: KeepingSettings = field(default_factory=KeepingSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check all settings; `SettingError` names the variable."""
    read = Environment(environment, SettingError)
    port = read.number("CONVEYOR_PORT", 8787, least=0, most=65_535)
    return Settings(
        data=Path(read.text("CONCIERGE_DATA", "concierge-data")),
        workers=read.number("CONCIERGE_WORKERS", 10, least=1, most=250),
        retry_s=read.number("CONCIERGE_RETRY_MS", 120_000, least=1, most=3_600_000) / 1000,
        desk=DeskSettings(
            public_url=read.url("CONCIERGE_URL", f"http://127.0.0.1:{port}"),
            idle_minutes=read.number("CONCIERGE_IDLE_MINUTES", 30, least=1, most=1_440),
            session_hours=read.number("CONCIERGE_SESSION_HOURS", 12, least=1, most=168),
            rate=read.number("CONCIERGE_RATE", 120, least=1, most=1_000_000),
        ),
        providers=read_providers(read),
        keeping=KeepingSettings(
            audit_days=read.number("CONCIERGE_KEEP_AUDIT_DAYS", 2_190, least=1, most=36_500),
            message_days=read.number("CONCIERGE_KEEP_MESSAGES_DAYS", 90, least=1, most=36_500),
            temp_hours=read.number("CONCIERGE_KEEP_TEMP_HOURS", 24, least=1, most=8_760),
            link_hours=read.number("CONCIERGE_LINK_HOURS", 24, least=1, most=168),
        ),
        watch=WatchSettings(
            sentry_dsn=read.secret("SENTRY_DSN"),
            traces_percent=read.number("CONCIERGE_TRACES_PERCENT", 100, least=0, most=100),
            alert_webhook=read.url("CONCIERGE_ALERT_WEBHOOK", ""),
        ),
    )


def read_providers(read: Environment) -> ProviderSettings:
    """Those of the providers. `SettingError`."""
    return ProviderSettings(
        smtp_url=read.secret("SMTP_URL"),
        sender=read.text("CONCIERGE_SENDER", "concierge@localhost"),
        resend_url=read.url("RESEND_BASE_URL", "https://api.resend.com"),
        resend_key=read.secret("RESEND_API_KEY"),
        resend_webhook_secret=read.secret("RESEND_WEBHOOK_SECRET"),
        twilio_url=read.url("TWILIO_BASE_URL", "https://api.twilio.com"),
        twilio_account=read.text("TWILIO_ACCOUNT_SID", ""),
        twilio_token=read.secret("TWILIO_AUTH_TOKEN"),
        twilio_sender=read.text("TWILIO_FROM", ""),
        timeout_s=read.number("PROVIDER_TIMEOUT_S", 30, least=1, most=600),
        smtp_ca=read.text("SMTP_CA", ""),
        order=tuple(read.text("CONCIERGE_PROVIDERS", "smtp,resend,twilio").replace(" ", "").split(",")),
        unknown=read.choice("CONCIERGE_UNKNOWN", Unknown, Unknown.SAME),
        smtp_rate=read.text("SMTP_RATE", ""),
        resend_rate=read.text("RESEND_RATE", ""),
        twilio_rate=read.text("TWILIO_RATE", ""),
        circuit_failures=read.number("PROVIDER_CIRCUIT_FAILURES", 5, least=1, most=1_000),
        circuit_open_s=read.number("PROVIDER_CIRCUIT_OPEN_S", 30, least=1, most=3_600),
    )
