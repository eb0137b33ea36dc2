"""What a claim may take where a queue has limits: judged here, on what a store has read. Pure, and the same for all
stores.

A candidate passes its key's gate (order, concurrency, rate, rest) and its queue's (rate). What was refused for a rate
makes its key rest until there is room for it, so that cheaper ones do not overtake it for ever.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from conveyor.model.rate import Window
from conveyor.model.settings import ConsumerSettings

PAST_MAX: Final = 1_000
"""Messages that one claim buries because they are past their end; if there may be more, it is worth asking again."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A ready message that a claim has met: the columns of `select_judged`, in their order."""

    seq: int
    priority: int
    ready_at: int
    claims: int
    releases: int
    crashes: int
    key: str | None
    expires_at: int | None
    first_ready_at: int
    cost_or_none: int | None

    @property
    def cost(self) -> int:
        return self.cost_or_none or 1


class KeyState(msgspec.Struct, frozen=True):
    """How a key stands before a claim."""

    leased: int = 0
    first: int | None = None
    """The seq of its first message that is not final; for ordered keys."""
    window: Window | None = None
    rests_until: int = 0


class Gate:
    """One claim's way through a queue's limits."""

    def __init__(
        self,
        consumer: ConsumerSettings,
        now: int,
        retention_ms: int,
        window: Window | None,
        states: dict[str, KeyState] | None = None,
    ) -> None:
        self.consumer = consumer
        self.now = now
        self.retention_ms = retention_ms
        self.window = window
        """Of the queue's own rate."""
        self.states = {} if states is None else states
        """Of every key that may be asked for; shared by copies."""
        self.rests: dict[str, int] = {}
        """Keys that a rate has closed, and until when."""
        self.opens_at: int | None = None
        """The queue's rate is spent until then."""
        self._leased: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()
        self._spent_by_all = 0

    def copy(self) -> Gate:
        """To try something that may come to nothing."""
        other = Gate(self.consumer, self.now, self.retention_ms, self.window, self.states)
        other.rests = dict(self.rests)
        other.opens_at = self.opens_at
        other._leased, other._spent = self._leased.copy(), self._spent.copy()
        other._spent_by_all = self._spent_by_all
        return other

    @property
    def is_spent(self) -> bool:
        """Nothing more may go, whatever its key."""
        return self.opens_at is not None

    def unknown(self, candidates: Sequence[Candidate]) -> list[str]:
        """Keys whose state must be read before their candidates are judged."""
        keys = {self.consumer.gate_key(each.key) for each in candidates}
        return sorted(key for key in keys if key and key not in self.states)

    def is_past(self, candidate: Candidate) -> bool:
        """T10: its own end has come, or it has been here longer than the queue retains, whatever put it off."""
        expires_at = candidate.expires_at
        return (expires_at is not None and expires_at <= self.now) or (
            candidate.first_ready_at < self.now - self.retention_ms
        )

    def admits(self, candidate: Candidate) -> bool:
        """Whether its key lets it go now."""
        key = self.consumer.gate_key(candidate.key)
        if not key:
            return True
        consumer, state = self.consumer, self.states[key]
        if consumer.ordered and state.first is not None and state.first != candidate.seq:
            return False  # the first may be a redriven one, while a later one is leased
        limit = consumer.key_limit
        if limit is not None and state.leased + self._leased[key] >= limit:
            return False
        if max(state.rests_until, self.rests.get(key, 0)) > self.now:
            return False
        if state.window is None or state.window.fits(self.now, candidate.cost, besides=self._spent[key]):
            return True
        self.rests[key] = state.window.opens_at(self.now, candidate.cost, besides=self._spent[key])
        return False

    def has_room(self, candidate: Candidate) -> bool:
        """Whether the queue's own rate lets it go now; nothing goes past one that it does not."""
        if self.window is None or self.window.fits(self.now, candidate.cost, besides=self._spent_by_all):
            return True
        self.opens_at = self.window.opens_at(self.now, candidate.cost, besides=self._spent_by_all)
        return False

    def take(self, candidate: Candidate) -> None:
        """It goes."""
        self._spent_by_all += candidate.cost
        key = self.consumer.gate_key(candidate.key)
        if key:
            self._leased[key] += 1
            self._spent[key] += candidate.cost

    def close(self, taken: Sequence[Candidate], left: Sequence[Candidate] = ()) -> dict[str, tuple[Window | None, int]]:
        """The end of the claim: what it took is noted in the windows. For every key whose record has changed: its
        window, and when its messages are to be looked at again (0: no need).

        `left` was found fit, but its batch is not open: its keys do not rest for what followed it.
        """
        if self.window is not None and taken:
            self.window.take(self.now, sum(each.cost for each in taken))
        spent: Counter[str] = Counter()
        for each in taken:
            spent[self.consumer.gate_key(each.key) or ""] += each.cost
        rests = self.rests | {
            key: self.now for each in left if (key := self.consumer.gate_key(each.key)) in self.rests and key
        }
        changed: dict[str, tuple[Window | None, int]] = {}
        for key in sorted({*spent, *rests} - {""}):
            window, opens_at = self.states[key].window, rests.get(key, 0)
            if window is not None and spent[key]:
                window.take(self.now, spent[key])
                if not opens_at and not window.fits(self.now, 1):
                    opens_at = window.opens_at(self.now, 1)
            if window is not None or opens_at:
                changed[key] = window, opens_at
        return changed

    def left_open(self, changed: Mapping[str, tuple[Window | None, int]], taken: Sequence[Candidate]) -> dict[str, int]:
        """Keys that gave something and have room left, by how many. As many of what was put aside are to come back:
        nothing else would bring them, if the window never fills again."""
        if self.consumer.fair:  # where nothing is put aside
            return {}
        limit = self.consumer.key_limit
        gave = Counter(self.consumer.gate_key(each.key) for each in taken)
        return {
            key: gave[key]
            for key, (_, opens_at) in changed.items()
            if gave[key] and not opens_at and (limit is None or self.states[key].leased + self._leased[key] < limit)
        }


class Turn(msgspec.Struct):
    """A key's place in the line of a fair queue, at one level of priority."""

    place: int
    """Lower goes first; as stored, until it has moved."""
    key: str
    remains: int
    """Messages that it may still give in this turn."""
    has_moved: bool = False


class Rotated(msgspec.Struct, frozen=True):
    """How far a claim has come along the line."""

    taken: list[Candidate]
    line: list[Turn]
    """Who stands there now, in this order; of those that were read."""
    past: list[Candidate]
    """Those that were met too late to be delivered."""
    gone: list[Turn]
    """Keys that have nothing to give now."""
    hungry: str | None = None
    """The key of which more was wanted than was read. Read more, and begin anew."""
    is_short: bool = False
    """More of the line was wanted than was read. Read more, and begin anew."""


def rotate(
    turns: Sequence[Turn],
    offers: Mapping[str, Sequence[Candidate]],
    gate: Gate,
    limit: int,
    *,
    is_whole_line: bool = True,
    is_whole_offer: Callable[[str], bool] = lambda _key: True,
) -> Rotated:
    """Weighted round robin: the first key in line gives what its turn allows and goes to the end of the line, or out of
    it if it has no more to give."""
    weight_of = gate.consumer.weight_of
    line = deque(Turn(each.place, each.key, min(each.remains, weight_of(each.key))) for each in turns)
    behind = line if is_whole_line else deque[Turn]()
    given: Counter[str] = Counter()
    taken: list[Candidate] = []
    past: list[Candidate] = []
    gone: list[Turn] = []
    while line and len(taken) < limit and len(past) < PAST_MAX and not gate.is_spent:
        turn, offered = line[0], offers.get(line[0].key, ())
        is_out = False
        while turn.remains and len(taken) < limit and len(past) < PAST_MAX and not gate.is_spent:
            if given[turn.key] == len(offered):
                if not is_whole_offer(turn.key):
                    return Rotated([], [], [], [], turn.key, False)
                is_out = True
                break
            candidate = offered[given[turn.key]]
            if gate.is_past(candidate):
                past.append(candidate)
                given[turn.key] += 1
                continue
            if not gate.admits(candidate):
                is_out = True
                break
            if gate.has_room(candidate):
                gate.take(candidate)
                taken.append(candidate)
                given[turn.key] += 1
                turn.remains -= 1
        if is_out:
            gone.append(line.popleft())
        elif not turn.remains:
            turn.remains, turn.has_moved = weight_of(turn.key), True
            behind.append(line.popleft())
    is_over = len(taken) == limit or len(past) == PAST_MAX or gate.is_spent
    is_short = not is_whole_line and not line and not is_over
    return Rotated(taken, [*line] if is_whole_line else [*line, *behind], past, gone, None, is_short)
