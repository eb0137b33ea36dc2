"""Which providers research and write, by the settings."""

from dataclasses import dataclass
from typing import Protocol, assert_never

import httpx2

from .brave import Brave
from .claude import Claude
from .grok import Grok
from .movie import Details, Finding, Truth
from .perplexity import Perplexity
from .provider import Provider
from .settings import ResearchProvider, RoastProvider, Settings
from .tmdb import Tmdb


class Researcher(Protocol):
    """Finds out what people say about a movie."""

    async def research(self, movie: Details) -> list[Finding]: ...


class Writer(Protocol):
    """Writes a roast."""

    async def write(self, truth: Truth) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The three outside services that a roast needs."""

    tmdb: Tmdb
    researcher: Researcher
    writer: Writer
    research_name: str


def hire(settings: Settings, client: httpx2.AsyncClient) -> Crew:
    """Put the crew together."""
    return Crew(
        tmdb=Tmdb(Provider("tmdb", client, settings.tmdb)),
        researcher=_researcher(settings, client),
        writer=_writer(settings, client),
        research_name=settings.research.value,
    )


def _researcher(settings: Settings, client: httpx2.AsyncClient) -> Researcher:
    match settings.research:
        case ResearchProvider.BRAVE:
            return Brave(Provider("brave", client, settings.brave))
        case ResearchProvider.PERPLEXITY:
            return Perplexity(Provider("perplexity", client, settings.perplexity))
    assert_never(settings.research)


def _writer(settings: Settings, client: httpx2.AsyncClient) -> Writer:
    match settings.roast:
        case RoastProvider.CLAUDE:
            return Claude(Provider("claude", client, settings.claude))
        case RoastProvider.GROK:
            return Grok(Provider("grok", client, settings.grok))
    assert_never(settings.roast)
