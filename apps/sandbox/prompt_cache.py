"""Anthropic's prompt cache: which part of a prompt was seen before, which is written now, and for how long it keeps.

A prompt is a row of blocks; a breakpoint keeps the row up to it. A later prompt reads the longest
kept row it begins with.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Final

from .clock import SandboxClock

LOOKBACK_BLOCKS: Final = 20
ROWS_MAX: Final = 10_000


class Ttl(StrEnum):
    """How long a row keeps."""

    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"

    @property
    def span(self) -> timedelta:
        """The time it keeps, counted from its last use."""
        return timedelta(hours=1) if self is Ttl.ONE_HOUR else timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a prompt; `ttl` is set where it carries a breakpoint."""

    text: str
    tokens: int
    ttl: Ttl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """How the prompt's tokens are billed."""

    input_tokens: int
    read_tokens: int = 0
    written_5m_tokens: int = 0
    written_1h_tokens: int = 0

    @property
    def written_tokens(self) -> int:
        """All that was written."""
        return self.written_5m_tokens + self.written_1h_tokens


class PromptCache:
    """Keeps rows by their fingerprint; ages by the sandbox's clock alone."""

    def __init__(self, clock: SandboxClock, *, tokens_min: int) -> None:
        self._clock = clock
        self._tokens_min = tokens_min
        self._expiries: dict[str, datetime] = {}

    def use(self, blocks: Sequence[Block], *, scope: str) -> CacheUse:
        """Bill a prompt and keep what its breakpoints ask for; `scope` is who may share (a key and a model)."""
        prints = _fingerprints(blocks, scope=scope)
        sums = list(accumulate(block.tokens for block in blocks))
        marks = [
            (place, block.ttl) for place, block in enumerate(blocks) if block.ttl and sums[place] >= self._tokens_min
        ]
        hit = self._longest_hit([place for place, _ in marks], prints)
        covered = read = sums[hit] if hit is not None else 0
        written = dict.fromkeys(Ttl, 0)
        for place, ttl in marks:
            self._keep(prints[place], ttl)
            written[ttl] += max(0, sums[place] - covered)
            covered = max(covered, sums[place])
        return CacheUse(
            input_tokens=(sums[-1] if sums else 0) - covered,
            read_tokens=read,
            written_5m_tokens=written[Ttl.FIVE_MINUTES],
            written_1h_tokens=written[Ttl.ONE_HOUR],
        )

    def _longest_hit(self, marks: Sequence[int], prints: Sequence[str]) -> int | None:
        now = self._clock.now()
        near = {place for mark in marks for place in range(max(0, mark - LOOKBACK_BLOCKS + 1), mark + 1)}
        kept = [place for place in near if prints[place] in self._expiries and self._expiries[prints[place]] > now]
        return max(kept, default=None)

    def _keep(self, row: str, ttl: Ttl) -> None:
        """Write a row or renew it; a use never shortens its life."""
        now = self._clock.now()
        self._expiries[row] = max(now + ttl.span, self._expiries.pop(row, now))
        if len(self._expiries) > ROWS_MAX:
            del self._expiries[next(iter(self._expiries))]


def _fingerprints(blocks: Sequence[Block], *, scope: str) -> list[str]:
    running = hashlib.sha256(scope.encode())
    prints = []
    for block in blocks:
        text = block.text.encode()
        running.update(len(text).to_bytes(8, "big") + text)
        prints.append(running.hexdigest())
    return prints
