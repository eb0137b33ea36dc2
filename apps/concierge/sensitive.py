"""What nobody may read but the people whom it concerns: addresses, names and contents of messages.

A field says so by its type, `recipient: Sensitive`, and its class by `@veiled`: whatever prints such a thing (a log, an
error's text, a local variable in a report) then shows stars. `words_of` gives what is to be struck out elsewhere.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeAlias, TypeVar, get_args, get_type_hints

import msgspec

T = TypeVar("T")

MARK: Final = msgspec.Meta(extra={"sensitive": True})
Sensitive: TypeAlias = Annotated[str, MARK]
"""Text that is shown to nobody by itself."""
SensitiveBytes: TypeAlias = Annotated[bytes, MARK]
STARS: Final = "***"
_KNOWN: Final[dict[type[object], frozenset[str]]] = {}
_WORD: Final = re.compile(r"\w{2,}")


def veiled(kind: type[T]) -> type[T]:
    """A class whose sensitive fields print as stars."""
    hidden = sensitive_fields(kind)

    def show(self: Any) -> str:
        shown = (f"{name}={STARS if name in hidden else repr(getattr(self, name))}" for name in _fields(kind))
        return f"{kind.__name__}({', '.join(shown)})"

    kind.__repr__ = show  # type: ignore[method-assign]  # each class is given its own
    return kind


def sensitive_fields(kind: type[object]) -> frozenset[str]:
    """The names of those that are."""
    found = _KNOWN.get(kind)
    if found is None:
        hints = get_type_hints(kind, include_extras=True)
        found = _KNOWN[kind] = frozenset(name for name, hint in hints.items() if _is_sensitive(hint))
    return found


def values_of(thing: object) -> Iterator[str]:
    """What its sensitive fields hold."""
    for name in sensitive_fields(type(thing)):
        value = getattr(thing, name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, bytes):
            yield value.decode(errors="replace")


def words_of(*texts: str) -> frozenset[str]:
    """Each word of them, in small letters."""
    return frozenset(word for text in texts for word in _WORD.findall(text.casefold()))


def strike(text: str, words: frozenset[str]) -> str:
    """The text without any of these words."""
    if not words:
        return text
    return _WORD.sub(lambda found: STARS if found[0].casefold() in words else found[0], text)


def _fields(kind: type) -> tuple[str, ...]:
    found: tuple[str, ...] | None = getattr(kind, "__struct_fields__", None)
    return tuple(getattr(kind, "__dataclass_fields__", ())) if found is None else found


def _is_sensitive(hint: Any) -> bool:
    return MARK in getattr(hint, "__metadata__", ()) or any(_is_sensitive(each) for each in get_args(hint))
