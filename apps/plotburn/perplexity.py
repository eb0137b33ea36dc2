"""Perplexity's agent: it searches the web and sums up what it found."""

from typing import Final

import msgspec

from .movie import Details, Finding
from .provider import Ask, Provider, Refusal
from .responses import Response, output_text

INSTRUCTIONS: Final = (
    "Report what critics and audiences dislike about the movie: plot, acting, effects, pacing. Be brief and concrete."
)


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


class Perplexity:
    """The research agent."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def research(self, movie: Details) -> list[Finding]:
        """The summary first, then its sources."""
        body = {
            "model": self._provider.model,
            "input": f"Reviews and criticism of the movie {movie.title} ({movie.release_date[:4]})",
            "instructions": INSTRUCTIONS,
            "tools": [{"type": "web_search"}],
        }
        headers = {"authorization": f"Bearer {self._provider.key}"}
        answer = await self._provider.ask(Ask(method="POST", path="/v1/agent", headers=headers, body=body))
        response = self._provider.read(answer, Response, _read_refusal)
        summary = Finding(title=f"{movie.title}: summary", text=output_text(self._provider, response))
        sources = [result for item in response.output if item.type == "search_results" for result in item.results]
        return [summary, *(Finding(title=source.title, text=source.snippet, url=source.url) for source in sources)]


def _read_refusal(body: bytes) -> Refusal:
    error = msgspec.json.decode(body, type=_Refusal).error
    return Refusal(code=error.type, message=error.message)
