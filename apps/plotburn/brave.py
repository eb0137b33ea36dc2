"""Brave Search: what the web says about a movie. A spent rate and a spent quota are both 429; their waits differ."""

from typing import Final, Literal

import httpx2
import msgspec

from .errors import ProviderError, RateLimitedError
from .movie import Details, Finding
from .provider import AFTER_S_MAX, QUOTA_AFTER_S, RATE_LIMIT_AFTER_S, Answer, Ask, Provider, Refusal, retry_after_s

RESULTS_COUNT: Final = 10
QUOTA_LIMITED: Final = "QUOTA_LIMITED"


class _Result(msgspec.Struct):
    title: str = ""
    url: str = ""
    description: str = ""


class _Web(msgspec.Struct):
    results: list[_Result] = []


class _Found(msgspec.Struct):
    type: Literal["search"]
    web: _Web | None = None


class _Error(msgspec.Struct):
    code: str = ""
    detail: str = ""


class _Refusal(msgspec.Struct):
    error: _Error | None = None
    errors: list[_Error] = []


class Brave:
    """The search engine."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def research(self, movie: Details) -> list[Finding]:
        """Look up reviews; a movie nobody wrote about has no findings."""
        query = {
            "q": f"{movie.title} {movie.release_date[:4]} movie reviews criticism".strip(),
            "count": str(RESULTS_COUNT),
        }
        headers = {"x-subscription-token": self._provider.key}
        answer = await self._provider.ask(Ask(method="GET", path="/res/v1/web/search", headers=headers, query=query))
        if answer.status == 429:
            raise self._limited(answer)
        found = self._provider.read(answer, _Found, _read_refusal)
        results = found.web.results if found.web else []
        return [Finding(title=result.title, text=result.description, url=result.url) for result in results]

    def _limited(self, answer: Answer) -> ProviderError:
        refusal = self._provider.undress(answer, _read_refusal)
        second, month = _pair(answer.headers, "x-ratelimit-reset")
        if refusal.code == QUOTA_LIMITED or _pair(answer.headers, "x-ratelimit-remaining")[1] == 0:
            wait = retry_after_s(answer.headers, default=month or QUOTA_AFTER_S)
            wait = min(max(wait, month or QUOTA_AFTER_S), AFTER_S_MAX)
        else:
            wait = retry_after_s(answer.headers, default=second or RATE_LIMIT_AFTER_S)
        return RateLimitedError(self._provider.name, refusal.message, after_s=wait, code=refusal.code)


def _pair(headers: httpx2.Headers, name: str) -> tuple[float | None, float | None]:
    """Brave's rate headers are lists: this second, this month."""
    numbers = [float(part) for part in headers.get(name, "").replace(" ", "").split(",") if part.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (None, None)


def _read_refusal(body: bytes) -> Refusal:
    refusal = msgspec.json.decode(body, type=_Refusal)
    error = refusal.error or (refusal.errors[0] if refusal.errors else _Error())
    return Refusal(code=error.code, message=error.detail)
