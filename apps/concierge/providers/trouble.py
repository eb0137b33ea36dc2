"""How providers fail, finer than `errors`: what is their trouble, and what is the recipient's.

TemporaryError           this recipient cannot get it now; another provider would be told the same
  ProviderDownError      the provider itself is in trouble, and has not taken it: the next one may
  ProviderBusyError      it asks us to wait, and has not taken it: the next one may
  RestingError           all circuits are open: nobody was asked
"""

from conveyor_apps.concierge.errors import TemporaryError

TEXT_CHARS_MAX = 200


class ProviderDownError(TemporaryError):
    """Out of reach, broken, or it does not know our key."""

    def __init__(self, provider: str, problem: str, *, after_s: float | None = None) -> None:
        self.provider = provider
        super().__init__(say(provider, problem), after_s=after_s)


class ProviderBusyError(TemporaryError):
    """A rate or a quota is spent."""

    def __init__(self, provider: str, problem: str, *, after_s: float) -> None:
        self.provider = provider
        super().__init__(say(provider, problem), after_s=after_s)


class RestingError(TemporaryError):
    """There is no provider to ask for a while. It costs no attempt."""

    def __init__(self, after_s: float) -> None:
        super().__init__("no provider can be asked now", after_s=after_s)


def say(provider: str, problem: str) -> str:
    """A sentence about a provider, on one line, bounded. Nothing of an answer stands in it but numbers and codes."""
    return f"{provider}: {' '.join(problem.split())[:TEXT_CHARS_MAX]}"
