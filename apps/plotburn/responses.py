"""The shape of a "response", which Perplexity's agent and xAI share."""

import msgspec

from .provider import Provider


class Content(msgspec.Struct):
    """A piece of a message."""

    type: str
    text: str = ""


class Source(msgspec.Struct):
    """A page the provider has read."""

    title: str = ""
    url: str = ""
    snippet: str = ""


class Item(msgspec.Struct):
    """One step of the output: a message, or search results."""

    type: str
    content: list[Content] = []
    results: list[Source] = []


class Response(msgspec.Struct):
    """The whole answer."""

    status: str
    output: list[Item]


def output_text(provider: Provider, response: Response) -> str:
    """All of the message's text; an answer without any is malformed."""
    if response.status != "completed":
        raise provider.malformed(f"the response is {response.status}, not completed")
    messages = [item for item in response.output if item.type == "message"]
    text = "".join(part.text for item in messages for part in item.content if part.type == "output_text").strip()
    if not text:
        raise provider.malformed("the response has no text")
    return text
