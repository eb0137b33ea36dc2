"""What may be asked for, so that a page needs to know nothing by heart."""

from typing import Final, Generic, TypeVar, get_args

import msgspec

from ..records import PROMPT_CHARS_MAX, Parameters, ProviderName
from ..settings import Settings

T = TypeVar("T")

DURATIONS: Final = (4, 6, 8)
"""Seconds; what all three providers make."""
TITLES: Final = {
    ProviderName.GEMINI: "Veo, Gemini API",
    ProviderName.AGENT_PLATFORM: "Veo, Agent Platform",
    ProviderName.OMNI: "Gemini Omni",
}
SANDBOX: Final = "sandbox"
"""As a key: whoever uses it is no customer of Google's."""


class Choice(msgspec.Struct, Generic[T], frozen=True):
    """Values, and the one that is taken where none is named."""

    values: tuple[T, ...]
    default: T


class ParameterChoices(msgspec.Struct, frozen=True, rename="camel"):
    """Of a request's `parameters`."""

    duration: Choice[int]
    aspect_ratio: Choice[str]
    resolution: Choice[str]


class ProviderOption(msgspec.Struct, frozen=True, rename="camel"):
    """A provider that can be asked, and its usual model."""

    name: ProviderName
    title: str
    model: str


class Options(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of `GET /api/options`."""

    provider: ProviderName
    """The usual one."""
    providers: list[ProviderOption]
    """Those that a key is set for."""
    parameters: ParameterChoices
    prompt_chars_max: int
    user_rate: int
    """Generations that a user may ask for in a minute."""
    sandbox: bool
    """Videos are made up by a stand-in."""


def options_of(settings: Settings) -> Options:
    """What these settings allow."""
    usual = Parameters()
    ready = [each for each in ProviderName if not settings.missing_keys(each)]
    return Options(
        provider=settings.provider,
        providers=[ProviderOption(each, TITLES[each], settings.host(each).model) for each in ready],
        parameters=ParameterChoices(
            duration=Choice(DURATIONS, usual.duration),
            aspect_ratio=Choice(_values("aspect_ratio"), usual.aspect_ratio),
            resolution=Choice(_values("resolution"), usual.resolution),
        ),
        prompt_chars_max=PROMPT_CHARS_MAX, user_rate=settings.user_rate,
        sandbox=settings.host(settings.provider).key.reveal() == SANDBOX,
    )  # fmt: skip


def _values(name: str) -> tuple[str, ...]:
    return get_args(Parameters.__annotations__[name])
