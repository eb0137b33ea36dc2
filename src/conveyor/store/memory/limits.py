"""Limits in memory: keys, rates and turns, found anew by each claim from all that there is."""

from __future__ import annotations

from conveyor.model.rate import Window
from conveyor.model.verdict import DeadReason
from conveyor.store.gates import Gate, KeyState, Turn, rotate
from conveyor.store.memory.floor import Floor
from conveyor.store.memory.rows import Message, Queue


class Limits(Floor):
    """What a claim asks before it takes."""

    def _gate(self, queue: Queue) -> Gate:
        consumer, tables = self._consumer(queue.name), self._tables
        window = None if consumer.rate is None else self._window(queue.name, "")
        states: dict[str, KeyState] = {}
        for message in tables.in_queue(queue.name):
            key = consumer.gate_key(message.key)
            if key:
                state = states.get(key)
                states[key] = KeyState(
                    leased=message.leased + (0 if state is None else state.leased),
                    first=message.seq if state is None else state.first,
                    window=None if consumer.key_rate is None else self._window(queue.name, key),
                    rests_until=tables.rests.get((queue.name, key), 0),
                )
        return Gate(consumer, self._now(), queue.settings.retention_ms, window, states)

    def _window(self, queue: str, key: str) -> Window:
        consumer = self._consumer(queue)
        rate = consumer.key_rate if key else consumer.rate
        assert rate is not None
        window = self._tables.windows.setdefault((queue, key), Window(rate))
        window.rate = rate
        return window

    def _walk(self, gate: Gate, due: list[Message], limit: int) -> list[Message]:
        """The first `limit` of these that the gate lets through; those it meets too late to deliver are expired."""
        passed: list[Message] = []
        for message in due:
            candidate = message.candidate()
            if len(passed) == limit or gate.is_spent:
                break
            if gate.is_past(candidate):
                self._kill(message, DeadReason.EXPIRED, None)
            elif gate.admits(candidate) and gate.has_room(candidate):
                gate.take(candidate)
                passed.append(message)
        return passed

    def _begin_turns(self, queue: Queue, gate: Gate, due: list[Message]) -> None:
        """Keys that may give something come to the end of the line, in the order of what they have to give."""
        for priority in sorted({message.priority for message in due}, reverse=True):
            line = self._tables.lines.setdefault((queue.name, priority), [])
            present = {turn.key for turn in line}
            firsts = [
                offer[0] for key, offer in self._offers(gate, due, priority).items() if offer and key not in present
            ]
            for message in firsts:
                if gate.admits(message.candidate()):
                    key = gate.consumer.gate_key(message.key)
                    assert key is not None
                    line.append(Turn(0, key, gate.consumer.weight_of(key)))

    def _offers(self, gate: Gate, due: list[Message], priority: int) -> dict[str, list[Message]]:
        """What each key has to give, in the order of claims."""
        offers: dict[str, list[Message]] = {}
        for message in due:
            key = gate.consumer.gate_key(message.key)
            assert key is not None, "in a fair queue every message has its place"
            is_behind = gate.consumer.ordered and key and gate.states[key].first != message.seq
            if message.priority == priority and not is_behind:
                offers.setdefault(key, []).append(message)
        return offers

    def _take_turns(self, queue: Queue, gate: Gate, due: list[Message], limit: int, *, is_final: bool) -> list[Message]:
        """Up to `limit`, turn by turn; only the final time anybody moves in the line."""
        taken: list[Message] = []
        past: list[Message] = []
        standing = {priority for name, priority in self._tables.lines if name == queue.name}
        for priority in sorted({message.priority for message in due} | standing, reverse=True):
            line = self._tables.lines.get((queue.name, priority), [])
            offers = {
                key: [message.candidate() for message in offer]
                for key, offer in self._offers(gate, due, priority).items()
            }
            rotated = rotate(line, offers, gate, limit - len(taken))
            taken += [self._tables.messages[each.seq] for each in rotated.taken]
            past += [self._tables.messages[each.seq] for each in rotated.past]
            if is_final:
                self._tables.lines[queue.name, priority] = rotated.line
        if is_final:
            for message in past:
                self._kill(message, DeadReason.EXPIRED, None)
        return taken

    def _close_gate(self, queue: Queue, gate: Gate, taken: list[Message], left: list[Message]) -> None:
        changed = gate.close([m.candidate() for m in taken], [m.candidate() for m in left])
        for key, (_, opens_at) in changed.items():
            self._tables.rests[queue.name, key] = opens_at

    def _next_opening(self, queue: Queue) -> int | None:
        moments = [at for (name, _), at in self._tables.rests.items() if name == queue.name and at > self._now()]
        return min(moments, default=None)

    def _forget_limits(self, queue: str, *, windows: bool) -> None:
        """The keys' settings have changed, or the queue is gone."""
        for name, priority in list(self._tables.lines):
            if name == queue:
                del self._tables.lines[name, priority]
        for name, key in list(self._tables.rests):
            if name == queue:
                del self._tables.rests[name, key]
        for name, key in list(self._tables.windows):
            if name == queue and (windows or (key and self._consumer(queue).key_rate is None)):
                del self._tables.windows[name, key]
