"""What must not be printed: keys, passwords and tokens that an app was given."""


class Secret:
    """A key that prints as stars; `reveal()` is the only way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The key itself, for a request header or a comparison."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"
