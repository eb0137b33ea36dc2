"""What a sandbox is told at birth: where to listen, which world to invent, which faults to start with."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final

from .errors import SandboxHostError, SandboxSettingError
from .faults import GENERATION_S_MAX, Faults

MOVIES_MAX: Final = 500
DAYS_MAX: Final = 365
PORT_MAX: Final = 65_535
BODY_BYTES_MAX: Final = 1_048_576
RECEIPT_DELAY_MS_MAX: Final = 600_000
FIRST_DAY: Final = date(2026, 11, 21)
GENERATION_S: Final = 12


class ProviderName(StrEnum):
    """The providers, named as their path prefix is."""

    TMDB = "tmdb"
    BRAVE = "brave"
    ANTHROPIC = "anthropic"
    XAI = "xai"
    PERPLEXITY = "perplexity"
    GEMINI = "gemini"
    AGENT_PLATFORM = "agent-platform"
    OMNI = "omni"
    TWILIO = "twilio"
    RESEND = "resend"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Everything that decides how a sandbox answers; two equal settings give two equal worlds."""

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 7
    movies: int = 50
    day: int = 0
    first_day: date = FIRST_DAY
    gone_movie_ids: tuple[int, ...] = ()
    cache_tokens_min: int = 0
    body_bytes_max: int = BODY_BYTES_MAX
    is_clock_running: bool = False
    generation_s: int = GENERATION_S
    """How long a video takes, on the sandbox's clock."""
    smtp_port: int | None = None
    """Where mail is taken with STARTTLS, 0 for any free port; None: there is no mail server."""
    smtp_tls: bool = True
    """Without it a mail server offers neither TLS nor AUTH: what somebody between sees to."""
    receipt_delay_ms: int = 50
    """How long after a message was taken the provider begins to tell of it."""
    faults: Mapping[ProviderName, Faults] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold the values against their limits."""
        if not is_loopback(self.host):
            raise SandboxHostError(self.host)
        check_limits("port", self.port, lowest=0, highest=PORT_MAX)
        check_limits("smtp_port", self.smtp_port or 0, lowest=0, highest=PORT_MAX)
        check_limits("receipt_delay_ms", self.receipt_delay_ms, lowest=0, highest=RECEIPT_DELAY_MS_MAX)
        check_limits("movies", self.movies, lowest=1, highest=MOVIES_MAX)
        check_limits("day", self.day, lowest=0, highest=DAYS_MAX)
        check_limits("cache_tokens_min", self.cache_tokens_min, lowest=0, highest=BODY_BYTES_MAX)
        check_limits("generation_s", self.generation_s, lowest=0, highest=GENERATION_S_MAX)
        check_limits("body_bytes_max", self.body_bytes_max, lowest=1, highest=64 * BODY_BYTES_MAX)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a listener on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_limits(name: str, value: int, *, lowest: int, highest: int) -> None:
    """Refuse a number outside its limits."""
    if not lowest <= value <= highest:
        raise SandboxSettingError(name, problem=f"is {value}", hint=f"give a number from {lowest} to {highest}")
