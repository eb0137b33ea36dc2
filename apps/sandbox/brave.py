"""Brave Search as it speaks: web results, the rate headers on every answer, and its two forms of 429."""

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .prose import Article, digest
from .provider import Ask, Endpoint, Problem, Reply, Trouble, World, json_refusal, json_reply, refuse
from .settings import ProviderName

QUERY_CHARACTERS_MAX: Final = 400
QUERY_WORDS_MAX: Final = 50
COUNT_MAX: Final = 20
OFFSET_MAX: Final = 9
SECOND_LIMIT: Final = 50
MONTH_LIMIT: Final = 15_000
MONTH_S: Final = 2_592_000
FRESHNESS_DAYS: Final = {"pd": 1, "pw": 7, "pm": 31, "py": 365}
DATE_RANGE: Final = re.compile(r"(\d{4}-\d\d-\d\d)to(\d{4}-\d\d-\d\d)")

VALIDATION: Final = (422, "VALIDATION", "Unable to validate request parameter(s)")
REFUSALS: Final = {
    Trouble.MISSING_KEY: VALIDATION,
    Trouble.WRONG_KEY: (401, "SUBSCRIPTION_TOKEN_INVALID", "The provided subscription token is invalid."),
    Trouble.INVALID: VALIDATION,
    Trouble.TOO_LARGE: VALIDATION,
    Trouble.NOT_FOUND: (404, "NOT_FOUND", "The requested resource was not found."),
    Trouble.RATE_LIMITED: (429, "RATE_LIMITED", "Request rate limit exceeded for plan."),
    Trouble.QUOTA_LIMITED: (429, "QUOTA_LIMITED", "Request quota limit exceeded for plan."),
}


class Brave:
    """The search engine."""

    name = ProviderName.BRAVE

    def __init__(self, world: World) -> None:
        self._world = world
        self._used = 0

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the subscription token."""
        return headers.get("x-subscription-token")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        return (Endpoint(name="web_search", method="GET", path="/res/v1/web/search", answer=self._search),)

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no; a used-up quota comes in the plural form, as seen in the wild."""
        failed = (problem.status, "INTERNAL", "An internal error occurred.")
        status, code, detail = failed if problem.trouble is Trouble.FAILED else REFUSALS[problem.trouble]
        error = {
            "id": digest("brave", ordinal),
            "status": status,
            "code": code,
            "detail": detail,
            "meta": _meta(problem),
        }
        form = {"errors": [error]} if problem.trouble is Trouble.QUOTA_LIMITED else {"error": error}
        body = {"type": "ErrorResponse", **form, "time": self._world.clock.unix_s()}
        return json_refusal(body, status=status, headers=_refusal_headers(problem, status=status))

    def _search(self, ask: Ask) -> Reply:
        query = _query(ask.query.get("q", ""))
        count = _number("count", ask.query.get("count", "20"), lowest=1, highest=COUNT_MAX)
        offset = _number("offset", ask.query.get("offset", "0"), lowest=0, highest=OFFSET_MAX)
        movie = self._world.movie_named_in(query)
        ask.refuse_if_failing(movie)
        found = self._world.prose.articles(query, movie=movie, today=self._world.clock.today())
        fresh = [article for article in found if _is_fresh(article, ask.query.get("freshness"))]
        shown = fresh[offset * count : (offset + 1) * count]
        self._used += 1
        body = {
            "type": "search",
            "query": {"original": query, "more_results_available": len(fresh) > (offset + 1) * count},
            "web": {"type": "search", "results": [_result(article) for article in shown], "family_friendly": True},
        }
        month_left = max(0, MONTH_LIMIT - self._used)
        return json_reply(body, headers=_rate_headers(second_left=SECOND_LIMIT - 1, month_left=month_left))


def _query(text: str) -> str:
    if not text.strip() or len(text) > QUERY_CHARACTERS_MAX or len(text.split()) > QUERY_WORDS_MAX:
        refuse(Trouble.INVALID, "q")
    return text


def _number(name: str, text: str, *, lowest: int, highest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and lowest <= int(text) <= highest):
        refuse(Trouble.INVALID, name)
    return int(text)


def _is_fresh(article: Article, freshness: str | None) -> bool:
    if not freshness:
        return True
    if freshness in FRESHNESS_DAYS:
        return article.age_days <= FRESHNESS_DAYS[freshness]
    between = DATE_RANGE.fullmatch(freshness)
    if between is None:
        refuse(Trouble.INVALID, "freshness")
    return between[1] <= article.published.isoformat() <= between[2]


def _result(article: Article) -> dict[str, object]:
    return {
        "title": article.title,
        "url": article.url,
        "description": article.snippet,
        "age": "today" if article.age_days == 0 else f"{article.age_days} days ago",
        "page_age": f"{article.published.isoformat()}T00:00:00",
        "language": "en",
        "family_friendly": True,
        "profile": {"name": article.outlet, "url": article.url},
    }


def _meta(problem: Problem) -> Mapping[str, object]:
    match problem.trouble:
        case Trouble.MISSING_KEY:
            return {"errors": [{"type": "missing", "loc": ["header", "x-subscription-token"], "msg": "Field required"}]}
        case Trouble.INVALID:
            return {"errors": [{"type": "value_error", "loc": ["query", problem.message], "msg": "Input is not valid"}]}
        case Trouble.WRONG_KEY:
            return {"component": "authentication"}
        case Trouble.RATE_LIMITED | Trouble.QUOTA_LIMITED:
            quota = MONTH_LIMIT if problem.trouble is Trouble.QUOTA_LIMITED else 5
            rates = {"rate_limit": SECOND_LIMIT, "rate_current": SECOND_LIMIT}
            return {"plan": "Sandbox", **rates, "quota_limit": MONTH_LIMIT, "quota_current": quota}
        case _:
            return {}


def _refusal_headers(problem: Problem, *, status: int) -> Mapping[str, str]:
    if status != 429:
        return {}
    month_left = 0 if problem.trouble is Trouble.QUOTA_LIMITED else 1_000
    return {"Retry-After": str(problem.retry_after_s), **_rate_headers(second_left=0, month_left=month_left)}


def _rate_headers(*, second_left: int, month_left: int) -> Mapping[str, str]:
    return {
        "X-RateLimit-Limit": f"{SECOND_LIMIT}, {MONTH_LIMIT}",
        "X-RateLimit-Policy": f"{SECOND_LIMIT};w=1, {MONTH_LIMIT};w={MONTH_S}",
        "X-RateLimit-Remaining": f"{second_left}, {month_left}",
        "X-RateLimit-Reset": "1, 1419704",
    }
