"""What plotburn is told by its environment, read once: keys, hosts, and how a day's run goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from conveyor_apps.environment import Environment
from conveyor_apps.secret import Secret

from .errors import SettingError

MOVIES_LIMIT: Final = 50
MOVIES_LIMIT_MAX: Final = 500


class ResearchProvider(StrEnum):
    """Who looks up what people say about a movie."""

    BRAVE = "brave"
    PERPLEXITY = "perplexity"


class RoastProvider(StrEnum):
    """Who writes the roast."""

    CLAUDE = "claude"
    GROK = "grok"


class CronMode(StrEnum):
    """One message per movie, or one movie after another inside the cron run (the first version)."""

    QUEUE = "queue"
    SEQUENTIAL = "sequential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One provider's address, key and, where it matters, model."""

    base_url: str
    key: Secret = field(default_factory=Secret)
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that may differ between two installations."""

    api_secret: Secret
    tmdb: Host
    brave: Host
    perplexity: Host
    claude: Host
    grok: Host
    research: ResearchProvider = ResearchProvider.BRAVE
    roast: RoastProvider = RoastProvider.CLAUDE
    cron_mode: CronMode = CronMode.QUEUE
    cron_delay_ms: int = 500
    cron_history_limit: int = 10
    kv_version: str = "v1"
    log_retention_days: int = 7
    movies_limit: int = MOVIES_LIMIT
    database: Path = Path("plotburn.db")
    alert_webhook: str = ""
    provider_timeout_s: int = 60

    def missing_keys(self) -> list[str]:
        """Name the variables without which these settings cannot work."""
        needed = {
            "API_SECRET_KEY": self.api_secret,
            "TMDB_API_KEY": self.tmdb.key,
            **({"BRAVE_API_KEY": self.brave.key} if self.research is ResearchProvider.BRAVE else {}),
            **({"PERPLEXITY_API_KEY": self.perplexity.key} if self.research is ResearchProvider.PERPLEXITY else {}),
            **({"CLAUDE_API_KEY": self.claude.key} if self.roast is RoastProvider.CLAUDE else {}),
            **({"XAI_API_KEY": self.grok.key} if self.roast is RoastProvider.GROK else {}),
        }
        return sorted(name for name, secret in needed.items() if not secret)

    def check(self) -> None:
        """`SettingError` naming every variable that is missing."""
        missing = self.missing_keys()
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise SettingError(
                f"environment: {names} must be set (RESEARCH_PROVIDER={self.research}, ROAST_PROVIDER={self.roast})"
            )


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check all settings; the error names the variable."""
    read = Environment(environment, SettingError)
    settings = Settings(
        api_secret=read.secret("API_SECRET_KEY"),
        tmdb=_host(read, "TMDB", "https://api.themoviedb.org"),
        brave=_host(read, "BRAVE", "https://api.search.brave.com"),
        perplexity=_host(read, "PERPLEXITY", "https://api.perplexity.ai", model="perplexity/sonar"),
        claude=_host(read, "CLAUDE", "https://api.anthropic.com", model="claude-haiku-5-5"),
        grok=_host(read, "XAI", "https://api.x.ai", model="grok-4.5"),
        research=read.choice("RESEARCH_PROVIDER", ResearchProvider, ResearchProvider.BRAVE),
        roast=read.choice("ROAST_PROVIDER", RoastProvider, RoastProvider.CLAUDE),
        cron_mode=read.choice("CRON_MODE", CronMode, CronMode.QUEUE),
        cron_delay_ms=read.number("CRON_DELAY_MS", 500, most=60_000),
        cron_history_limit=read.number("CRON_HISTORY_LIMIT", 10, least=1, most=1_000),
        kv_version=read.text("KV_VERSION", "v1"),
        log_retention_days=read.number("LOG_RETENTION_DAYS", 7, least=1, most=365),
        movies_limit=read.number("MOVIES_LIMIT", MOVIES_LIMIT, least=1, most=MOVIES_LIMIT_MAX),
        database=Path(read.text("PLOTBURN_DB", "plotburn.db")),
        alert_webhook=read.url("PLOTBURN_ALERT_WEBHOOK", ""),
        provider_timeout_s=read.number("PROVIDER_TIMEOUT_S", 60, least=1, most=600),
    )
    settings.check()
    return settings


def _host(read: Environment, prefix: str, base_url: str, *, model: str = "") -> Host:
    return Host(
        base_url=read.url(f"{prefix}_BASE_URL", base_url),
        key=read.secret(f"{prefix}_API_KEY"),
        model=read.text(f"{prefix}_MODEL", model),
    )
