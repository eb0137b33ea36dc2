"""The command line: reads the flags into settings, serves, and says in one line where."""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from typing import Final

import msgspec

from .errors import SandboxError, SandboxSettingError
from .faults import Faults, faults_of
from .serve import run
from .settings import FIRST_DAY, GENERATION_S, ProviderName, SandboxSettings

EXIT_REFUSED: Final = 2
FAULT_HELP: Final = (
    "switch a fault on, for example tmdb:rate_limit_every=5 or xai:fail_movie_ids=910003,910011 (repeatable)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; say how it ended."""
    try:
        run(read_settings(arguments), announce=_announce)
    except SandboxError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 0
    return 0


def read_settings(arguments: Sequence[str] | None) -> SandboxSettings:
    """Read the flags."""
    flags = _parser().parse_args(arguments)
    return SandboxSettings(
        host=flags.host,
        port=flags.port,
        seed=flags.seed,
        movies=flags.movies,
        day=flags.day,
        first_day=flags.first_day,
        gone_movie_ids=tuple(flags.gone),
        cache_tokens_min=flags.cache_tokens_min,
        is_clock_running=flags.running_clock,
        generation_s=flags.generation_s,
        smtp_port=flags.smtp_port,
        faults=_faults(flags.fault),
    )


def _announce(url: str) -> None:
    print(f"sandbox listening on {url}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conveyor_apps.sandbox",
        description="Stand in for TMDB, Brave, Anthropic, xAI, Perplexity, Google's videos, Twilio, Resend and SMTP.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address; any other is refused")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port (default)")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same world")
    parser.add_argument("--movies", type=int, default=50, help="how many movies play at a time")
    parser.add_argument("--day", type=int, default=0, help="the day to start on; each day brings 1 to 3 new releases")
    parser.add_argument("--first-day", type=date.fromisoformat, default=FIRST_DAY, help="the date of day 0")
    parser.add_argument(
        "--gone", type=int, action="append", default=[], metavar="ID", help="a movie TMDB lists but answers 404 for"
    )
    parser.add_argument("--cache-tokens-min", type=int, default=0, help="shortest prompt Anthropic's cache keeps")
    parser.add_argument("--running-clock", action="store_true", help="let the sandbox's time pass by itself")
    parser.add_argument("--generation-s", type=int, default=GENERATION_S, help="how long a video takes, in its time")
    parser.add_argument("--smtp-port", type=int, metavar="PORT", help="take mail there, too; 0 takes any free port")
    parser.add_argument("--fault", action="append", default=[], metavar="PROVIDER:NAME=VALUE", help=FAULT_HELP)
    return parser


def _faults(texts: Sequence[str]) -> dict[ProviderName, Faults]:
    raw: dict[ProviderName, dict[str, object]] = {}
    for text in texts:
        provider, name, value = _split(text)
        raw.setdefault(provider, {})[name] = value
    return {provider: faults_of(values) for provider, values in raw.items()}


def _split(text: str) -> tuple[ProviderName, str, object]:
    place, equals, value = text.partition("=")
    provider, colon, name = place.partition(":")
    if not (equals and colon) or provider not in tuple(ProviderName):
        hint = "write PROVIDER:NAME=VALUE; providers are: " + ", ".join(ProviderName)
        raise SandboxSettingError("fault", problem=f"cannot be read from `{text}`", hint=hint)
    return ProviderName(provider), name, _value(name, value)


def _value(name: str, text: str) -> object:
    if name.endswith("_ids"):
        text = f"[{text}]"
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value
