"""What can go wrong with a provider, and what each of it means for the job that asked.

ProviderError                 it failed for now: trying again may help
  ProviderLimitedError        it asks us to wait `after_s` seconds
  ProviderRefusedError        it will never do this: a safety refusal, a wrong argument, a wrong key
  SubmissionInDoubtError      nobody knows whether it took a submission, so that another might be the second
"""

from typing import Final

MESSAGE_CHARS_MAX: Final = 300


class ProviderError(Exception):
    """A provider failed: who, with which status and code, and in which words."""

    def __init__(self, provider: str, problem: str, *, status: int | None = None, code: str = "") -> None:
        self.provider = provider
        self.status = status
        self.code = code
        shown = " ".join(str(part) for part in (status, code) if part)
        problem = " ".join(problem.split())[:MESSAGE_CHARS_MAX]
        super().__init__(f"{provider} answered {shown}: {problem}" if shown else f"{provider}: {problem}")


class ProviderLimitedError(ProviderError):
    """The provider asks us to wait."""

    def __init__(
        self, provider: str, problem: str, *, after_s: float, status: int | None = 429, code: str = ""
    ) -> None:
        super().__init__(provider, problem, status=status, code=code)
        self.after_s = after_s


class ProviderRefusedError(ProviderError):
    """The same request will be refused for ever."""


class SubmissionInDoubtError(ProviderError):
    """The connection ended after the request had been sent, and before its answer was here."""
