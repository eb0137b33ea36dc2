"""Grok (xAI): writes the roast. A wrong key is a 400 here, not a 401."""

from typing import Final

import msgspec

from .errors import KeyRefusedError
from .movie import Truth
from .prompt import SYSTEM_PROMPT, roast_request
from .provider import Ask, Provider, Refusal
from .responses import Response, output_text

TOKENS_MAX: Final = 500
WRONG_KEY: Final = "Incorrect API key"


class _Refusal(msgspec.Struct):
    code: str = ""
    error: str = ""


class Grok:
    """The writer at xAI."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def write(self, truth: Truth) -> str:
        """One roast; nothing is stored on the other side."""
        body = {
            "model": self._provider.model,
            "instructions": SYSTEM_PROMPT,
            "input": roast_request(truth),
            "max_output_tokens": TOKENS_MAX,
            "store": False,
        }
        headers = {"authorization": f"Bearer {self._provider.key}"}
        answer = await self._provider.ask(Ask(method="POST", path="/v1/responses", headers=headers, body=body))
        if answer.status == 400:
            refusal = self._provider.undress(answer, _read_refusal)
            if refusal.message.startswith(WRONG_KEY):
                raise KeyRefusedError(self._provider.name, WRONG_KEY, status=400, code=refusal.code)
        return output_text(self._provider, self._provider.read(answer, Response, _read_refusal))


def _read_refusal(body: bytes) -> Refusal:
    refusal = msgspec.json.decode(body, type=_Refusal)
    return Refusal(code=refusal.code, message=refusal.error)
