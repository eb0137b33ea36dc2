"""What can go wrong in plotburn.

PlotburnError
  SettingError            a variable of the environment is missing or wrong
  ProviderError           a provider failed; trying again later may help
    RateLimitedError      it asks us to wait `after_s` seconds
    MovieGoneError        TMDB no longer knows the movie; trying again is useless
    KeyRefusedError       the key in our settings is wrong or blocked
    MalformedAnswerError  it answered 200 with something that is not its own wire
"""

from typing import Final

MESSAGE_CHARS_MAX: Final = 300


class PlotburnError(Exception):
    """The root."""


class SettingError(PlotburnError):
    """A variable of the environment is missing or wrong; the text names it and never shows a key."""


class ProviderError(PlotburnError):
    """A provider failed: who, with which status and code, and in which words."""

    def __init__(self, provider: str, problem: str, *, status: int | None = None, code: str = "") -> None:
        self.provider = provider
        self.status = status
        self.code = code
        shown = " ".join(str(part) for part in (status, code) if part)
        problem = " ".join(problem.split())[:MESSAGE_CHARS_MAX]
        super().__init__(f"{provider} answered {shown}: {problem}" if shown else f"{provider}: {problem}")


class RateLimitedError(ProviderError):
    """The provider asks us to wait."""

    def __init__(self, provider: str, problem: str, *, after_s: float, status: int = 429, code: str = "") -> None:
        super().__init__(provider, problem, status=status, code=code)
        self.after_s = after_s


class MovieGoneError(ProviderError):
    """The movie is no longer there."""


class KeyRefusedError(ProviderError):
    """Our key is wrong, blocked or out of money."""


class MalformedAnswerError(ProviderError):
    """The answer is not what this provider's wire promises."""
