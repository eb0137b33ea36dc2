"""What can go wrong in generation, beside what a provider does.

GenerationError
  SettingError     a variable of the environment is missing or wrong
  RefusedError     a caller asked for what cannot be; the text is for people, and is shown to them
"""


class GenerationError(Exception):
    """The root."""


class SettingError(GenerationError):
    """A variable of the environment is missing or wrong; the text names it and never shows a secret."""


class RefusedError(GenerationError):
    """What was asked for cannot be done: the HTTP status, and a text that is shown to people."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(text)
