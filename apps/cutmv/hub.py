"""Browsers that watch orders: each has a mailbox of bounded length, and is let go when it falls behind."""

import asyncio
from collections import defaultdict
from typing import Final

MAILBOX_MAX: Final = 512
WATCHED_MAX: Final = 500


Letter = tuple[str, int, str]
"""An event: order, its number there, and its text."""


class Mailbox:
    """What one browser has not been sent yet. `None` at its end: it fell behind, or the server stops."""

    def __init__(self) -> None:
        self.letters: asyncio.Queue[Letter | None] = asyncio.Queue()
        self.orders: set[str] = set()
        self._held: dict[str, list[Letter]] = {}

    def hold(self, order: str) -> None:
        """What comes of this order waits until `release`: what was missed goes first."""
        self.orders.add(order)
        self._held.setdefault(order, [])

    def release(self, order: str, missed: list[Letter]) -> None:
        """What was missed, and then what has come meanwhile."""
        for letter in [*missed, *self._held.pop(order, ())]:
            self.drop(letter)

    def drop(self, letter: Letter) -> None:
        """One more event."""
        if letter[0] in self._held:
            self._held[letter[0]].append(letter)
        elif self.letters.qsize() == MAILBOX_MAX:
            self.letters.put_nowait(None)
        elif self.letters.qsize() < MAILBOX_MAX:
            self.letters.put_nowait(letter)


class Hub:
    """Who watches what."""

    def __init__(self) -> None:
        self._watching: dict[str, set[Mailbox]] = defaultdict(set)
        self._mailboxes: set[Mailbox] = set()

    def __len__(self) -> int:
        return len(self._mailboxes)

    def open(self) -> Mailbox:
        """For a browser that came."""
        mailbox = Mailbox()
        self._mailboxes.add(mailbox)
        return mailbox

    def watch(self, mailbox: Mailbox, order: str) -> bool:
        """Whether it may watch one more; what comes of it is held until it is released."""
        if len(mailbox.orders) >= WATCHED_MAX and order not in mailbox.orders:
            return False
        mailbox.hold(order)
        self._watching[order].add(mailbox)
        return True

    def publish(self, order: str, seq: int, text: str) -> None:
        """To all that watch the order."""
        for mailbox in self._watching.get(order, ()):
            mailbox.drop((order, seq, text))

    def close(self, mailbox: Mailbox) -> None:
        """It is gone."""
        self._mailboxes.discard(mailbox)
        for order in mailbox.orders:
            self._watching[order].discard(mailbox)
            if not self._watching[order]:
                del self._watching[order]

    def close_all(self) -> None:
        """Let everybody go."""
        for mailbox in self._mailboxes:
            mailbox.letters.put_nowait(None)
