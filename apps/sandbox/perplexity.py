"""Perplexity as it speaks: the agent (also under its older name, responses) and the plain search."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .catalogue import Movie
from .prose import Article, cut, digest, tokens_in
from .provider import (
    Ask,
    Endpoint,
    Problem,
    ProblemError,
    Reply,
    Trouble,
    World,
    bearer_key,
    json_refusal,
    json_reply,
    read_body,
    refuse,
)
from .settings import ProviderName
from .transcript import SaidTurn, text_by_user, text_in_all

MODEL_HOUSES: Final = ("perplexity", "anthropic", "openai", "google", "xai")
PRESETS: Final = {"fast": "perplexity/sonar", "pro": "perplexity/sonar-pro", "deep": "perplexity/sonar-deep"}
SEARCH_RESULTS_MAX: Final = 20
SEARCH_RESULTS_DEFAULT: Final = 10
QUERIES_MAX: Final = 5
CITED: Final = 5
USD_PER_INPUT_TOKEN: Final = 0.000_000_25
USD_PER_OUTPUT_TOKEN: Final = 0.000_002_5
USD_PER_SEARCH: Final = 0.005

REFUSALS: Final = {
    Trouble.MISSING_KEY: (401, "missing_api_key", "No API key provided."),
    Trouble.WRONG_KEY: (401, "invalid_api_key", "Invalid API key provided."),
    Trouble.INVALID: (400, "invalid_request", "Invalid request."),
    Trouble.TOO_LARGE: (413, "request_too_large", "Request body is too large."),
    Trouble.NOT_FOUND: (404, "not_found", "Not found."),
    Trouble.RATE_LIMITED: (429, "request_rate_limit_exceeded", "Request rate limit exceeded, please try again later."),
    Trouble.QUOTA_LIMITED: (429, "quota_exceeded", "Quota exceeded, please check your plan."),
}


class AgentRequest(msgspec.Struct, frozen=True):
    """The part of an agent request that changes the answer."""

    input: str | list[SaidTurn]
    model: str | None = None
    preset: str | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] = []
    max_output_tokens: int | None = None
    stream: bool = False


class SearchRequest(msgspec.Struct, frozen=True):
    """The part of a search request that changes the answer."""

    query: str | list[str]
    max_results: int = SEARCH_RESULTS_DEFAULT


class ModelError(ProblemError):
    """The model's name is the fault; Perplexity has an error type of its own for that."""

    def __init__(self, name: str) -> None:
        super().__init__(Problem(trouble=Trouble.INVALID, message=f"Invalid model '{name}'."))


class Perplexity:
    """The answer engine."""

    name = ProviderName.PERPLEXITY

    def __init__(self, world: World) -> None:
        self._world = world

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the bearer key."""
        return bearer_key(headers)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        return (
            Endpoint(name="agent", method="POST", path="/v1/agent", answer=self._agent),
            Endpoint(name="agent", method="POST", path="/v1/responses", answer=self._agent),
            Endpoint(name="search", method="POST", path="/search", answer=self._search),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no with a type and a number."""
        failed = (problem.status, "internal_server_error", "Internal server error.")
        status, kind, text = failed if problem.trouble is Trouble.FAILED else REFUSALS[problem.trouble]
        if problem.message.startswith("Invalid model"):
            kind = "invalid_model"
        headers = {"Retry-After": str(problem.retry_after_s)} if status == 429 else {}
        error = {"message": problem.message or text, "type": kind, "code": status}
        return json_refusal({"error": error}, status=status, headers=headers)

    def _agent(self, ask: Ask) -> Reply:
        request = read_body(ask.body, AgentRequest)
        model = _model(request)
        if request.stream:
            refuse(Trouble.INVALID, "the sandbox does not stream Perplexity answers; leave `stream` out")
        prompt = text_by_user(request.input)
        movie = self._movie(ask, prompt)
        searches = request.preset is not None or any(tool.get("type") == "web_search" for tool in request.tools)
        written = cut(self._world.prose.research(prompt, movie=movie), tokens_max=request.max_output_tokens)
        name = digest(self._world.seed, "perplexity", ask.body)
        content = [{"type": "output_text", "text": written.text, "annotations": []}]
        message = {
            "type": "message",
            "id": f"msg_{name}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
        found = [self._found(prompt, movie)] if searches else []
        usage = _usage(tokens_in((request.instructions or "") + text_in_all(request.input)), written.tokens)
        body = {
            "id": f"resp_{name}",
            "object": "response",
            "created_at": self._world.clock.unix_s(),
            "status": "completed",
            "model": model,
            "error": None,
            "output": [*found, message],
            "usage": {**usage, "cost": _cost(usage, searches=len(found))},
        }
        return json_reply(body, tokens=usage)

    def _search(self, ask: Ask) -> Reply:
        request = read_body(ask.body, SearchRequest)
        queries = [request.query] if isinstance(request.query, str) else request.query
        if not 1 <= len(queries) <= QUERIES_MAX or not all(query.strip() for query in queries):
            refuse(Trouble.INVALID, f"query must be 1 to {QUERIES_MAX} texts, none of them empty")
        if not 1 <= request.max_results <= SEARCH_RESULTS_MAX:
            refuse(Trouble.INVALID, f"max_results must be from 1 to {SEARCH_RESULTS_MAX}")
        found = [article for query in queries for article in self._articles(query, self._movie(ask, query))]
        results = [_search_result(article) for article in found[: request.max_results]]
        return json_reply({"id": digest(self._world.seed, "search", ask.body), "results": results})

    def _movie(self, ask: Ask, text: str) -> Movie | None:
        movie = self._world.movie_named_in(text)
        ask.refuse_if_failing(movie)
        return movie

    def _articles(self, query: str, movie: Movie | None) -> Sequence[Article]:
        return self._world.prose.articles(query, movie=movie, today=self._world.clock.today())

    def _found(self, prompt: str, movie: Movie | None) -> Mapping[str, object]:
        query = f"{movie.title} reviews" if movie else prompt.strip()[:80]
        cited = enumerate(self._articles(query, movie)[:CITED], start=1)
        results = [{"id": number, **_search_result(article), "source": "web"} for number, article in cited]
        return {"type": "search_results", "queries": [query], "results": results}


def _model(request: AgentRequest) -> str:
    if request.model is None and request.preset is None:
        refuse(Trouble.INVALID, "one of `model` and `preset` is required")
    name = request.model or PRESETS.get(request.preset or "", "")
    house, _, rest = name.partition("/")
    if house not in MODEL_HOUSES or not rest:
        raise ModelError(request.model or request.preset or "")
    return name


def _search_result(article: Article) -> Mapping[str, object]:
    day = article.published.isoformat()
    return {"title": article.title, "url": article.url, "snippet": article.snippet, "date": day, "last_updated": day}


def _usage(input_tokens: int, output_tokens: int) -> Mapping[str, int]:
    return {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}


def _cost(usage: Mapping[str, int], *, searches: int) -> Mapping[str, object]:
    spent = {
        "input_cost": round(usage["input_tokens"] * USD_PER_INPUT_TOKEN, 8),
        "output_cost": round(usage["output_tokens"] * USD_PER_OUTPUT_TOKEN, 8),
        "tool_calls_cost": searches * USD_PER_SEARCH,
    }
    return {"currency": "USD", **spent, "total_cost": round(sum(spent.values()), 8)}
