"""Browsers that watch orders: each has a mailbox of bounded length, and is let go when it falls behind."""

import asyncio
from collections import defaultdict
from typing import Final

MAILBOX_MAX: Final = 512
WATCHED_MAX: Final = 500


class Mailbox:
    """What one browser has not been sent yet. `None` at its end: it fell behind, or the server stops."""

    def __init__(self) -> None:
        self.letters: asyncio.Queue[tuple[str, int, str] | None] = asyncio.Queue()
        self.orders: set[str] = set()

    def drop(self, letter: tuple[str, int, str]) -> None:
        """One more event: order, its number there, and its text."""
        if self.letters.qsize() == MAILBOX_MAX:
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
        """Whether it may watch one more."""
        if len(mailbox.orders) >= WATCHED_MAX and order not in mailbox.orders:
            return False
        mailbox.orders.add(order)
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
