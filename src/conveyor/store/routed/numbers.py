"""Numbers that mean the same in every process, though each store counts its own.

    seq     store's number << 48 | the store's own seq      the home store's stay as they are
    owner   1 << 62 | when << 20 | which                     made here, the same in every store
            store's number << 48 | the store's own number    of a process that works on that store alone
"""

from __future__ import annotations

from typing import Final

from conveyor.model.ids import MessageId

_OWN_BITS: Final = 48
_OWN: Final = (1 << _OWN_BITS) - 1
_COMMON: Final = 1 << 62
_WHEN: Final = (1 << 41) - 1
_WHICH: Final = (1 << 20) - 1


def mark_of(place: int) -> int:
    """What is added to a store's own numbers."""
    return place << _OWN_BITS


def place_in(number: int) -> int:
    """The store that a seq, or an owner of one store, belongs to."""
    return number >> _OWN_BITS


def own(number: int) -> int:
    """As the store itself counts."""
    return number & _OWN


def common_owner(id: MessageId) -> int:
    """A number for an owner in all stores, from a fresh id: in the order in which a process makes them."""
    when, counter, tail = (int.from_bytes(id[start:end], "big") for start, end in ((0, 6), (6, 10), (10, 16)))
    return _COMMON | (when & _WHEN) << 20 | (counter + tail) & _WHICH


def is_common(owner: int) -> bool:
    """Whether the number is that of one owner in all stores."""
    return owner >= _COMMON
