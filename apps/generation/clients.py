"""The three providers, by the settings."""

from collections.abc import Callable, Mapping

import httpx2

from .agent_platform import AgentPlatform
from .gemini import Gemini
from .google import Call, say_nothing
from .omni import Omni
from .records import ProviderName
from .settings import Settings
from .video import VideoProvider


def open_providers(
    settings: Settings, client: httpx2.AsyncClient, *, tell: Callable[[Call], None] = say_nothing
) -> Mapping[ProviderName, VideoProvider]:
    """All of them on one client; `tell` hears how each call ended."""
    made: list[VideoProvider] = [
        Gemini(client, settings.gemini, tell=tell),
        AgentPlatform(client, settings.agent_platform, tell=tell),
        Omni(client, settings.omni, tell=tell),
    ]
    return {each.name: each for each in made}
