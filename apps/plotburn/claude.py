"""Claude (Anthropic): writes the roast. The system block is the same for every movie and cached for an hour."""

from typing import Final

import msgspec

from .errors import RateLimitedError
from .movie import Truth
from .prompt import SYSTEM_PROMPT, roast_request
from .provider import Answer, Ask, Provider, Refusal, retry_after_s

TOKENS_MAX: Final = 500
VERSION: Final = "2023-06-01"
OVERLOADED: Final = 529
CACHE_CONTROL: Final = {"type": "ephemeral", "ttl": "1h"}


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Message(msgspec.Struct):
    content: list[_Block]
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


class Claude:
    """The writer at Anthropic."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def write(self, truth: Truth) -> str:
        """One roast."""
        body = {
            "model": self._provider.model,
            "max_tokens": TOKENS_MAX,
            "system": [{"type": "text", "text": SYSTEM_PROMPT, "cache_control": CACHE_CONTROL}],
            "messages": [{"role": "user", "content": roast_request(truth)}],
        }
        headers = {"x-api-key": self._provider.key, "anthropic-version": VERSION}
        answer = await self._provider.ask(Ask(method="POST", path="/v1/messages", headers=headers, body=body))
        self._refuse_overload(answer)
        return self._text(self._provider.read(answer, _Message, _read_refusal))

    def _refuse_overload(self, answer: Answer) -> None:
        """An overload that says how long to wait is a rate limit; one that does not is an ordinary failure."""
        if answer.status == OVERLOADED and "retry-after" in answer.headers:
            refusal = self._provider.undress(answer, _read_refusal)
            wait = retry_after_s(answer.headers, default=1.0)
            raise RateLimitedError(
                self._provider.name, refusal.message, after_s=wait, status=OVERLOADED, code=refusal.code
            )

    def _text(self, message: _Message) -> str:
        text = "".join(block.text for block in message.content if block.type == "text").strip()
        if message.stop_reason == "refusal" or not text:
            raise self._provider.malformed(f"the message has no roast (stop_reason {message.stop_reason})")
        return text


def _read_refusal(body: bytes) -> Refusal:
    error = msgspec.json.decode(body, type=_Refusal).error
    return Refusal(code=error.type, message=error.message)
