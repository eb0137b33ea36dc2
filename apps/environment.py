"""How apps read their environment: one variable at a time, empty counts as unset, and what is wrong is said by name."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

from conveyor_apps.secret import Secret

E = TypeVar("E", bound=StrEnum)
DIGITS_MAX: Final = 11


class Environment:
    """The variables of one app. What is wrong raises its error, whose text never holds a secret."""

    def __init__(self, values: Mapping[str, str], error: Callable[[str], Exception]) -> None:
        self._values = values
        self._error = error

    def text(self, name: str, default: str) -> str:
        """The variable without blanks around it."""
        return self._values.get(name, "").strip() or default

    def secret(self, name: str) -> Secret:
        """What must not be printed; empty if it is not set."""
        return Secret(self.text(name, ""))

    def url(self, name: str, default: str) -> str:
        """An address without a slash at its end; empty only if the default is."""
        value = self.text(name, default).rstrip("/")
        if value and not value.startswith(("http://", "https://")):
            raise self._error(f"environment: `{name}` must begin with http:// or https://")
        return value

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """A whole number within these bounds."""
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX and least <= int(text) <= most):
            raise self.wrong(name, text, f"a whole number from {least} to {most}")
        return int(text)

    def choice(self, name: str, choices: type[E], default: E) -> E:
        """One of these words, in whatever capitals."""
        text = self.text(name, default.value).lower()
        if text not in list(choices):
            raise self.wrong(name, text, " or ".join(choices))
        return choices(text)

    def wrong(self, name: str, text: str, wanted: str) -> Exception:
        """The error for a variable that is not what it should be."""
        return self._error(f"environment: `{name}` is `{text}`: give {wanted}")
