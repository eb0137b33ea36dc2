"""Anthropic as it speaks: messages (whole and streamed), token counting, the prompt cache's bill, and typed errors."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .anthropic_prompt import MessagesRequest, blocks_of, read_messages, read_prompt
from .prompt_cache import CacheUse, PromptCache
from .prose import Text, cut, digest
from .provider import Ask, Endpoint, Problem, Reply, Trouble, World, bearer_key, json_refusal, json_reply, refuse
from .settings import ProviderName
from .transcript import text_by_user

DELTA_WORDS: Final = 6

RATE_TEXT: Final = "This request would exceed your organization's rate limit."
REFUSALS: Final = {
    Trouble.MISSING_KEY: (401, "x-api-key header is required"),
    Trouble.WRONG_KEY: (401, "invalid x-api-key"),
    Trouble.INVALID: (400, "Invalid request"),
    Trouble.TOO_LARGE: (413, "Request exceeds the maximum size"),
    Trouble.NOT_FOUND: (404, "Not found"),
    Trouble.RATE_LIMITED: (429, RATE_TEXT),
    Trouble.QUOTA_LIMITED: (429, RATE_TEXT),
}
TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
FAILURE_TEXTS: Final = {402: "Your credit balance is too low", 504: "Request timed out", 529: "Overloaded"}


class Anthropic:
    """The maker of Claude."""

    name = ProviderName.ANTHROPIC

    def __init__(self, world: World, *, cache_tokens_min: int) -> None:
        self._world = world
        self._cache = PromptCache(world.clock, tokens_min=cache_tokens_min)

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the key of the older clients, or the newer ones' bearer."""
        return headers.get("x-api-key") or bearer_key(headers)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses."""
        return (
            Endpoint(name="messages", method="POST", path="/v1/messages", answer=self._messages),
            Endpoint(name="count_tokens", method="POST", path="/v1/messages/count_tokens", answer=self._count_tokens),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no with a type and a request id."""
        if problem.trouble is Trouble.FAILED:
            status, text = problem.status, FAILURE_TEXTS.get(problem.status, "Internal server error")
        else:
            status, text = REFUSALS[problem.trouble]
        request_id = f"req_{ordinal:08d}"
        kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        body = {"type": "error", "error": {"type": kind, "message": problem.message or text}, "request_id": request_id}
        headers = {"request-id": request_id}
        if status == 429:
            headers["retry-after"] = str(problem.retry_after_s)
        return json_refusal(body, status=status, headers=headers)

    def _count_tokens(self, ask: Ask) -> Reply:
        _check_version(ask.headers)
        blocks = blocks_of(read_prompt(ask.body))
        return json_reply({"input_tokens": sum(block.tokens for block in blocks)})

    def _messages(self, ask: Ask) -> Reply:
        _check_version(ask.headers)
        request = read_messages(ask.body)
        blocks = blocks_of(request)
        written = self._write(ask, request)
        use = self._cache.use(blocks, scope=f"{ask.key}\x1f{request.model}")
        usage = _usage(use, output_tokens=written.tokens)
        message: dict[str, object] = {
            "id": f"msg_{digest(self._world.seed, 'anthropic', ask.body)}",
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": [{"type": "text", "text": written.text}],
            "stop_reason": "max_tokens" if written.is_cut else "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        tokens = {name: value for name, value in usage.items() if isinstance(value, int)}
        if request.stream:
            return Reply(
                content=_as_events(message, usage, text=written.text), media_type="text/event-stream", tokens=tokens
            )
        return json_reply(message, tokens=tokens)

    def _write(self, ask: Ask, request: MessagesRequest) -> Text:
        prompt = text_by_user(request.messages)
        movie = self._world.movie_named_in(prompt)
        ask.refuse_if_failing(movie)
        return cut(self._world.prose.roast(prompt, movie=movie, voice="claude"), tokens_max=request.max_tokens)


def _check_version(headers: Headers) -> None:
    if not headers.get("anthropic-version"):
        refuse(Trouble.INVALID, "anthropic-version: header is required")


def _usage(use: CacheUse, *, output_tokens: int) -> Mapping[str, object]:
    return {
        "input_tokens": use.input_tokens,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": use.written_tokens,
        "cache_read_input_tokens": use.read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": use.written_5m_tokens,
            "ephemeral_1h_input_tokens": use.written_1h_tokens,
        },
        "service_tier": "standard",
    }


def _as_events(message: Mapping[str, object], usage: Mapping[str, object], *, text: str) -> bytes:
    return b"".join(
        b"event: " + str(event["type"]).encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
        for event in _events(message, usage, text=text)
    )


def _events(message: Mapping[str, object], usage: Mapping[str, object], *, text: str) -> Iterator[Mapping[str, object]]:
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    spent = {name: value for name, value in usage.items() if isinstance(value, int)}
    yield {"type": "message_start", "message": begun}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    words = text.split(" ")
    for start in range(0, len(words), DELTA_WORDS):
        piece = (" " if start else "") + " ".join(words[start : start + DELTA_WORDS])
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
        "usage": spent,
    }
    yield {"type": "message_stop"}
