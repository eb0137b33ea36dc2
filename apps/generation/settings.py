"""What generation is told by its environment, read once: the document's names, and what it leaves open."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from conveyor_apps.environment import Environment
from conveyor_apps.secret import Secret

from .errors import SettingError
from .logbook import LogLevel, LogStyle
from .records import ProviderName

QUEUE: Final = "generation-queue"
BUCKET: Final = "GENERATION_STORAGE"
DATA: Final = "generation-data"
WEBHOOK_PATH: Final = "/api/webhooks/worker"
TRIES: Final = 3
FOREVER: Final = "forever"
_PERIOD: Final = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS_S: Final = {"m": 60, "h": 3_600, "d": 86_400}


class DispatchMode(StrEnum):
    """How what waits gets to its worker: the four modes of the document."""

    IMMEDIATE = "immediate"
    CRON = "cron"
    ALARM = "alarm"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One provider's address, key and usual model; project and location where it has such."""

    base_url: str
    key: Secret = field(default_factory=Secret)
    model: str = ""
    project: str = ""
    location: str = ""
    storage_uri: str = ""
    """`gs://bucket/folder` for the Agent Platform's videos; empty: they come within its answers."""


GEMINI: Final = Host(base_url="https://generativelanguage.googleapis.com", model="veo-3.1-generate-preview")
AGENT_PLATFORM: Final = Host(base_url="https://us-central1-aiplatform.googleapis.com", model="veo-3.1-generate-001")
OMNI: Final = Host(base_url="https://generativelanguage.googleapis.com", model="gemini-omni-1.1-flash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that may differ between two installations."""

    gemini: Host = GEMINI
    agent_platform: Host = AGENT_PLATFORM
    omni: Host = OMNI
    provider: ProviderName = ProviderName.OMNI
    """For requests that name none."""
    provider_rate: str = "10/m"
    """Submissions to one provider, over all workers."""
    nextjs_url: str = "http://localhost:3000"
    webhook_secret: Secret = field(default_factory=Secret)
    """What webhooks are signed with, and Next.js verifies with: `whsec_…`. Empty: one is made, and kept in `data`."""
    dispatch: DispatchMode = DispatchMode.QUEUE
    user_rate: int = 30
    """Generations that one user may ask for in a minute."""
    workers: int = 4
    """Generations at a time in the mode `queue`, over all processes."""
    tries: int = TRIES
    poll_s: int = 5
    timeout_s: int = 300
    """From the submission to the video."""
    expected_s: int = 60
    """What a video takes, to say how far it may be where the provider does not: halfway by then."""
    keep_s: int | None = 30 * 86_400
    """How long what has ended is kept, its video and its events too; None: for ever."""
    log_style: LogStyle = LogStyle.PRETTY
    log_level: LogLevel = LogLevel.INFO
    """The least that is said."""
    data: Path = Path(DATA)
    """generation's database."""
    public_url: str = "http://127.0.0.1:8787"
    """Where browsers reach this server; videos are linked from here."""

    @property
    def database(self) -> Path:
        """generation's own tables."""
        return self.data / "generation.db"

    @property
    def webhook_url(self) -> str:
        """Where Next.js listens."""
        return self.nextjs_url + WEBHOOK_PATH

    def host(self, provider: ProviderName) -> Host:
        """The address and key of one of them."""
        return {
            ProviderName.GEMINI: self.gemini,
            ProviderName.AGENT_PLATFORM: self.agent_platform,
            ProviderName.OMNI: self.omni,
        }[provider]

    def missing_keys(self, provider: ProviderName | None = None) -> list[str]:
        """The variables without which this provider, else the usual one, cannot work."""
        provider = provider or self.provider
        host = self.host(provider)
        keys: dict[ProviderName, dict[str, Secret | str]] = {
            ProviderName.GEMINI: {"VEO3_API_KEY": host.key},
            ProviderName.AGENT_PLATFORM: {"AGENT_PLATFORM_TOKEN": host.key, "GOOGLE_CLOUD_PROJECT": host.project},
            ProviderName.OMNI: {"OMNI_API_KEY": host.key},
        }
        return sorted(name for name, value in keys[provider].items() if not value)

    def check(self) -> None:
        """`SettingError` naming every variable that is missing."""
        if missing := self.missing_keys():
            names = ", ".join(f"`{name}`" for name in missing)
            raise SettingError(f"environment: {names} must be set (GENERATION_PROVIDER={self.provider})")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check all settings; `SettingError` names the variable."""
    read = Environment(environment, SettingError)
    port = read.number("CONVEYOR_PORT", 8787, least=0, most=65_535)
    veo_key, location = read.secret("VEO3_API_KEY"), read.text("GOOGLE_CLOUD_LOCATION", "us-central1")
    settings = Settings(
        gemini=Host(
            base_url=read.url("VEO3_BASE_URL", GEMINI.base_url), key=veo_key,
            model=read.text("VEO3_MODEL", GEMINI.model),
        ),
        agent_platform=Host(
            base_url=read.url("AGENT_PLATFORM_BASE_URL", f"https://{location}-aiplatform.googleapis.com"),
            key=read.secret("AGENT_PLATFORM_TOKEN"), model=read.text("AGENT_PLATFORM_MODEL", AGENT_PLATFORM.model),
            project=read.text("GOOGLE_CLOUD_PROJECT", ""), location=location,
            storage_uri=read.text("AGENT_PLATFORM_STORAGE_URI", ""),
        ),
        omni=Host(
            base_url=read.url("OMNI_BASE_URL", OMNI.base_url), key=read.secret("OMNI_API_KEY") or veo_key,
            model=read.text("OMNI_MODEL", OMNI.model),
        ),
        provider=read.choice("GENERATION_PROVIDER", ProviderName, ProviderName.OMNI),
        provider_rate=read.text("GENERATION_PROVIDER_RATE", "10/m"),
        nextjs_url=read.url("NEXTJS_URL", "http://localhost:3000"),
        webhook_secret=read.secret("GENERATION_WEBHOOK_SECRET"),
        dispatch=read.choice("GENERATION_DISPATCH", DispatchMode, DispatchMode.QUEUE),
        user_rate=read.number("GENERATION_USER_RATE", 30, least=1, most=100_000),
        workers=read.number("GENERATION_WORKERS", 4, least=1, most=250),
        tries=read.number("GENERATION_TRIES", TRIES, least=1, most=20),
        poll_s=read.number("GENERATION_POLL_S", 5, least=1, most=60),
        timeout_s=read.number("GENERATION_TIMEOUT_S", 300, least=5, most=3_600),
        expected_s=read.number("GENERATION_EXPECTED_S", 60, least=1, most=3_600),
        keep_s=_seconds(read, "GENERATION_KEEP", "30d"),
        log_style=read.choice("CONVEYOR_LOG", LogStyle, LogStyle.PRETTY),
        log_level=read.choice("GENERATION_LOG_LEVEL", LogLevel, LogLevel.INFO),
        data=Path(read.text("GENERATION_DATA", DATA)),
        public_url=read.url("GENERATION_PUBLIC_URL", f"http://127.0.0.1:{port}"),
    )  # fmt: skip
    settings.check()
    return settings


def _seconds(read: Environment, name: str, default: str) -> int | None:
    """A time, or None for ever. `SettingError`."""
    text = read.text(name, default).lower()
    if text == FOREVER:
        return None
    found = _PERIOD.fullmatch(text)
    if found is None or not (seconds := int(found[1]) * _UNITS_S[found[2]]):
        raise read.wrong(name, text, f'a time, as in "12h" or "30d", or "{FOREVER}"')
    return seconds
