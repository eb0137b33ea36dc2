"""Judges a recorded history by the invariants of the specification. Every finding has a code, and names its message."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kit.history import NONE, Line, What

ACK_S: Final = 2.0
"""So long after a handler's end its ack may still be under way, and die with its process."""
ORPHAN_S: Final = 2.0
"""So long a worker's child may live on, on a busy machine, and begin what it was told."""
PARTS_OF_A_MS: Final = 0.002
"""A store counts milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What was declared, against which a history is held."""

    max_retries: int = 3
    ordered: bool = False
    """Messages of one key go one after another, in the order of their sends, which is that of the history."""
    max_concurrency: int | None = None
    is_drained: bool = True
    """What was confirmed has run, or is dead; otherwise it may also be left."""
    pause_grace_s: float = 0.0
    """What was claimed before a pause may still begin for so long."""
    leases_end: bool = False
    """Leases end by the clock, so that a call may go on beside the next one of its message."""


@dataclass(slots=True)
class Call:
    """One run of a handler for one message."""

    start: Line
    close: Line | None = None
    over: float | None = None
    """When it was over; None: nobody knows, its process ended unseen."""

    @property
    def worker(self) -> int:
        """The leader of its process group: a child for one message dies with its worker, if not in the same moment."""
        return int(self.start.words.get("within", self.start.pid))

    @property
    def went_well(self) -> bool:
        return self.close is not None and self.close.what is What.END


@dataclass
class Verdict:
    """What a history comes to."""

    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    confirmed: int = 0
    unknown: int = 0
    ran: int = 0
    """Messages that ran to their end."""
    calls: int = 0
    kills: int = 0
    unjudged: int = 0
    """Calls of which nobody knows when they were over."""
    reruns: int = 0
    """Calls of messages that had run to their end."""
    most_attempts: int = 0
    peak: int = 0
    """Calls at once."""
    story: str = ""
    """All lines of the first messages that were found."""
    waits: list[float] = field(default_factory=list)
    """Seconds from a kill until a message that it cut short ran again."""

    def add(self, code: str, name: object) -> None:
        self.findings[code].append(str(name))

    def redelivery_s(self, share: float) -> float:
        waits = sorted(self.waits)
        return waits[max(0, math.ceil(len(waits) * share) - 1)] if waits else 0.0

    def figures(self) -> dict[str, object]:
        """What a campaign publishes."""
        said = {code: len(names) for code, names in self.findings.items()}
        times = {f"p{round(share * 100)}": f"{self.redelivery_s(share):.2f}" for share in (0.5, 0.99, 1.0)}
        return {
            "confirmed": self.confirmed,
            "unknown": self.unknown,
            "calls": self.calls,
            "kills": self.kills,
            "checker": said or 0,
            "most_attempts": self.most_attempts,
            "reruns": self.reruns,
            "unjudged": self.unjudged,
            "redelivery_s": times if self.waits else NONE,
        }


Placed = tuple[str, str]
"""The name and the id of a message that lies in a queue."""


class Ends:
    """When each process was sent which signal. A pid may come again."""

    def __init__(self, history: Iterable[Line], *signals: What) -> None:
        self._moments: dict[int, list[float]] = defaultdict(list)
        for line in history:
            if line.what in signals:
                self._moments[line.pid].append(line.at)
        self._all = sorted(itertools.chain.from_iterable(self._moments.values()))

    def count(self, begin: float, end: float) -> int:
        """How many there were of all processes: so often a message may have been charged before it said a word."""
        return bisect.bisect_right(self._all, end) - bisect.bisect_left(self._all, begin)

    def of(self, call: Call) -> float | None:
        """The first such moment of the call's process from its start on, or of its worker from a little earlier."""
        own = [moment for moment in self._moments.get(call.start.pid, ()) if moment >= call.start.at]
        of_worker = [moment for moment in self._moments.get(call.worker, ()) if moment >= call.start.at - ORPHAN_S]
        return max(call.start.at, min([*own, *of_worker])) if own or of_worker else None


def judge(
    history: Sequence[Line], rules: Rules | None = None, *, left: Iterable[Placed] = (), dead: Iterable[Placed] = ()
) -> Verdict:
    """Hold a history to the rules. `left` and `dead` are what the store still has at its end."""
    rules = rules or Rules()
    verdict = Verdict(kills=sum(line.what is What.KILLED for line in history))
    calls = _read_calls(history)
    left, dead = list(left), list(dead)
    _judge_places(verdict, rules, history, calls, left, dead)
    _judge_dedupe(verdict, history, calls, [*left, *dead])
    _judge_batches(verdict, history, calls, [*left, *dead])
    fates = Ends(history, What.KILLED, What.FROZEN, What.ENDING)
    for of_message in calls.values():
        _judge_runs(verdict, rules, of_message, fates)
    _judge_acks(verdict, history, calls, [*left, *dead])
    _judge_keys(verdict, rules, calls)
    _judge_pauses(verdict, rules, history, calls)
    _judge_purges(verdict, history, calls)
    verdict.peak = _peak(itertools.chain.from_iterable(calls.values()))
    if rules.max_concurrency is not None and verdict.peak > rules.max_concurrency:
        verdict.add("CONCURRENCY", verdict.peak)
    verdict.story = _tell(verdict, history)
    return verdict


Calls = dict[str, list[Call]]
"""The calls of each message, by id, in the order of their starts."""


def _read_calls(history: Sequence[Line]) -> Calls:
    calls: Calls = defaultdict(list)
    running: dict[tuple[str, int, int], Call] = {}
    for line in history:
        name = (line.id, line.attempt, line.pid)
        if line.what is What.START:
            running[name] = Call(line)
            calls[line.id].append(running[name])
        elif line.what in (What.END, What.FAIL, What.CUT) and name in running:
            running.pop(name).close = line
    kills, freezes = Ends(history, What.KILLED), Ends(history, What.FROZEN)
    for of_message in calls.values():
        of_message.sort(key=lambda call: call.start.at)
        for call in of_message:
            ended = kills.of(call) if call.close is None else call.close.at
            call.over = min((at for at in (ended, freezes.of(call)) if at is not None), default=None)
    return calls


def _judge_places(
    verdict: Verdict, rules: Rules, history: Sequence[Line], calls: Calls, left: list[Placed], dead: list[Placed]
) -> None:
    """I1, I6, I7, I12: what was confirmed is somewhere, nothing is in two places, nothing comes from nowhere, too
    early, or otherwise than it was sent."""
    sending = {line.n: line for line in history if line.what is What.SENDING}
    confirmed = {line.n: line.id for line in history if line.what is What.SENT}
    ran = {call.start.n for of_message in calls.values() for call in of_message if call.went_well}
    verdict.confirmed, verdict.unknown = len(confirmed), len(sending.keys() - confirmed.keys())
    verdict.ran, verdict.calls = len(ran), sum(map(len, calls.values()))
    kept = {n for n, _ in dead} | (set() if rules.is_drained else {n for n, _ in left})
    purged_at = max((line.at for line in history if line.what is What.PURGED), default=-math.inf)
    there = {id for _, id in [*left, *dead]} | calls.keys()
    for n in confirmed.keys() - ran - kept:
        is_another = "dedupe" in sending[n].words and confirmed[n] in there
        if sending[n].at > purged_at and not is_another:
            verdict.add("LOST", n)
    for code, places in (("DLQ_DUPLICATE", [*left, *dead]), ("STILL_THERE", left if rules.is_drained else [])):
        for place, count in Counter(places).items():
            if count > 1 or code == "STILL_THERE":
                verdict.add(code, place[0])
    ids: dict[str, set[str]] = defaultdict(set)
    for n, id in [*left, *dead, *((call[0].start.n, id) for id, call in calls.items())]:
        ids[n].add(id)
    for n, found in ids.items():
        if n not in sending:
            verdict.add("PHANTOM", n)
        elif len(found) > 1:
            verdict.add("DUPLICATE_ENQUEUE", n)
    for call in itertools.chain.from_iterable(calls.values()):
        sent = sending.get(call.start.n)
        if sent is None:
            continue
        if call.start.at < sent.at + float(sent.words.get("delay", "0")) - PARTS_OF_A_MS:
            verdict.add("EARLY", call.start.n)
        if "crc" in sent.words and sent.words["crc"] != call.start.words["crc"]:
            verdict.add("CORRUPT", call.start.n)


def _judge_batches(verdict: Verdict, history: Sequence[Line], calls: Calls, placed: list[Placed]) -> None:
    """All of a batch, or none."""
    batches: dict[str, set[str]] = defaultdict(set)
    for line in history:
        if line.what is What.SENDING and "batch" in line.words:
            batches[line.words["batch"]].add(line.n)
    there = {n for n, _ in placed} | {of_message[0].start.n for of_message in calls.values()}
    for batch, names in batches.items():
        if 0 < len(names & there) < len(names):
            verdict.add("PARTIAL_BATCH", batch)


def _judge_runs(verdict: Verdict, rules: Rules, calls: list[Call], fates: Ends) -> None:
    """I2 to I4 for one message: one run at a time, attempts by one, none beyond the limit, none after a good end."""
    n = calls[0].start.n
    most = max(call.start.attempt for call in calls)
    verdict.most_attempts = max(verdict.most_attempts, most)
    if most > rules.max_retries + 1:
        verdict.add("ATTEMPTS", n)
    for first, second in itertools.pairwise(calls):
        fate = fates.of(first)
        was_acked = first.close is not None and (fate is None or fate - first.close.at > ACK_S)
        if first.over is None:
            verdict.unjudged += 1
        elif second.start.at < first.over and not rules.leases_end:
            verdict.add("LEASE_OVERLAP", n)
        elif first.close is None:
            verdict.waits.append(second.start.at - first.over)
        step = second.start.attempt - first.start.attempt
        was_released = not was_acked or (first.close is not None and first.close.what is What.CUT)
        unseen = fates.count(first.start.at, second.start.at)
        if not 0 <= step <= max(1, unseen) or (step == 0 and not was_released):
            verdict.add("ATTEMPT_STEP", n)
        if first.went_well:
            verdict.reruns += 1
            if was_acked and not rules.leases_end:
                verdict.add("EXTRA_RUN", n)


def _judge_acks(verdict: Verdict, history: Sequence[Line], calls: Calls, placed: list[Placed]) -> None:
    """I5: after a confirmed ack no claim succeeds, and the message is nowhere."""
    there = {id for _, id in placed}
    for line in history:
        is_claimed = line.what is What.ACKED and any(_asked(call) > line.at for call in calls.get(line.id, ()))
        if line.what is What.ACKED and (is_claimed or line.id in there):
            verdict.add("RUN_AFTER_ACK", line.n)


def _judge_keys(verdict: Verdict, rules: Rules, calls: Calls) -> None:
    """I9: the messages of one key in the order of their names, one at a time."""
    if not rules.ordered:
        return
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(itertools.chain.from_iterable(calls.values()), key=lambda call: call.start.at):
        by_key[call.start.key].append(call)
    for key, of_key in by_key.items():
        for first, second in itertools.pairwise(of_key):
            if key == NONE or first.start.n == second.start.n:
                continue
            is_over = first.over is None or first.over <= second.start.at
            if _number(second.start.n) < _number(first.start.n) or not is_over:
                verdict.add("FIFO_ORDER", f"{key}:{second.start.n}")


def _judge_pauses(verdict: Verdict, rules: Rules, history: Sequence[Line], calls: Calls) -> None:
    """T11: nothing begins between a confirmed pause and the next resume."""
    closed: list[tuple[float, float]] = []
    for line in history:
        if line.what is What.PAUSED:
            closed.append((line.at + rules.pause_grace_s, math.inf))
        elif line.what is What.RESUMING and closed and closed[-1][1] == math.inf:
            closed[-1] = (closed[-1][0], line.at)
    begins = [begin for begin, _ in closed]
    for call in itertools.chain.from_iterable(calls.values()):
        at = bisect.bisect_right(begins, _asked(call)) - 1
        if at >= 0 and call.start.at < closed[at][1]:
            verdict.add("PAUSED_DELIVERY", call.start.n)


def _judge_purges(verdict: Verdict, history: Sequence[Line], calls: Calls) -> None:
    """T9: what was there before a purge is not claimed after it."""
    sent = {line.n: line.at for line in history if line.what is What.SENT}
    purges: list[tuple[float, float]] = []
    for line in history:
        if line.what is What.PURGING:
            purges.append((line.at, math.inf))
        elif line.what is What.PURGED and purges:
            purges[-1] = (purges[-1][0], line.at)
    for call in itertools.chain.from_iterable(calls.values()):
        was_sent = sent.get(call.start.n, math.inf)
        if any(was_sent < purging and purged < _asked(call) for purging, purged in purges):
            verdict.add("PURGED_DELIVERY", call.start.n)


def _judge_dedupe(verdict: Verdict, history: Sequence[Line], calls: Calls, placed: list[Placed]) -> None:
    """I11: one message for all sends of one key, and every confirmed send names it."""
    keys = {line.n: line.words["dedupe"] for line in history if line.what is What.SENDING and "dedupe" in line.words}
    ids: dict[str, set[str]] = defaultdict(set)
    there = [*placed, *((of_message[0].start.n, id) for id, of_message in calls.items())]
    answers = [(line.n, line.id) for line in history if line.what is What.SENT]
    for n, id in [*there, *answers]:
        if n in keys:
            ids[keys[n]].add(id)
    for key, found in ids.items():
        if len(found) > 1:
            verdict.add("DEDUPE_MISS", key)


def _number(name: str) -> int:
    """`ordered-7` comes before `ordered-10`."""
    return int(name.rpartition("-")[2])


def _tell(verdict: Verdict, history: Iterable[Line]) -> str:
    """What happened to the first three of each kind."""
    told = {code: names[:3] for code, names in verdict.findings.items()}
    chosen = {name.rpartition(":")[2] for names in told.values() for name in names}
    calls = [line for line in history if line.n in chosen]
    pids = {line.pid for line in calls}
    fates = [line for line in history if line.n == NONE and line.pid in pids]
    return f"{told}\n" + "".join(map(str, sorted([*calls, *fates], key=lambda line: line.at)))


def _asked(call: Call) -> float:
    """When the claim was asked that led to it; the latest it can have been, where nobody said."""
    return float(call.start.words.get("asked", call.start.at))


def _peak(calls: Iterable[Call]) -> int:
    """The most calls at once. One of which nobody knows the end counts for its first moment."""
    edges: list[tuple[float, int]] = []
    for call in calls:
        over = math.nextafter(call.start.at, math.inf) if call.over is None else call.over
        edges += [(call.start.at, 1), (over, -1)]
    running = peak = 0
    for _, step in sorted(edges):
        running += step
        peak = max(peak, running)
    return peak
