"""What was said: a conversation comes as a string, a list of parts or a list of turns; here it is text."""

from collections.abc import Sequence
from typing import Any

import msgspec

Content = str | list[dict[str, Any]] | None


class SaidTurn(msgspec.Struct, frozen=True):
    """One turn, as all the providers spell it; items that are no message have no role."""

    role: str = ""
    content: Content = None


def text_of(content: Content) -> str:
    """Read the text parts; pictures and tool results have none."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


def text_by_user(said: str | Sequence[SaidTurn]) -> str:
    """Read all that the user said; it decides which movie the conversation is about."""
    if isinstance(said, str):
        return said
    return "\n".join(text_of(turn.content) for turn in said if turn.role == "user")


def text_in_all(said: str | Sequence[SaidTurn]) -> str:
    """Read the whole conversation; it decides what the call costs."""
    return said if isinstance(said, str) else "\n".join(text_of(turn.content) for turn in said)
