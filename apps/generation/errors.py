"""What can go wrong in generation, beside what a provider does.

GenerationError
  SettingError     a variable of the environment is missing or wrong
  RefusedError     a caller asked for what cannot be; the text is for people, and is shown to them
"""

from typing import Final

CODES: Final = {404: "not_found", 409: "conflict", 422: "invalid"}
"""Of refusals that name none."""


class GenerationError(Exception):
    """The root."""


class SettingError(GenerationError):
    """A variable of the environment is missing or wrong; the text names it and never shows a secret."""


class RefusedError(GenerationError):
    """What was asked for cannot be done: the HTTP status, a text that is shown to people, a code for programs, and what
    helps."""

    def __init__(self, text: str, *, status: int = 400, code: str = "", hint: str = "") -> None:
        self.status = status
        self.code = code or CODES.get(status, "refused")
        self.hint = hint
        super().__init__(text)
