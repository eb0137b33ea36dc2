"""What all stores hold of documents: which names there may be, and how records are numbered."""

from __future__ import annotations

from typing import Final

from conveyor.model.errors import InvalidKeyError

NAME_BYTES_MAX: Final = 1_024


def check_document(kind: str, name: str) -> None:
    """`InvalidKeyError` for what one of the databases would refuse."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(f"the name of a {kind} holds half of a surrogate pair") from None
    if not 0 < size <= NAME_BYTES_MAX or "\0" in name:
        raise InvalidKeyError(f"the name of a {kind} has 1 to {NAME_BYTES_MAX:,} bytes, and no NUL")


def record_name(number: int) -> str:
    """Of a trail's record, counted from 1; names go in the order of the numbers."""
    return f"{number:016d}"
