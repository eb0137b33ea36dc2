"""Checks of what lies in a store: time, owners, the sweep, queues, dead letters, schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from conveyor.doctor.finding import Finding, fail, fine, show_age, warn
from conveyor.model.dispatch import Dispatch, ticks_of
from conveyor.model.duration import MINUTE_MS, SECOND_MS
from conveyor.model.settings import ConsumerType
from conveyor.store.facts import BeltFacts, QueueFacts
from conveyor.store.migrate import SchemaState
from conveyor.store.records import OwnerRow, Schedule

DRIFT_MS_MAX: Final = 1 * SECOND_MS
LAG_MS_MAX: Final = 5 * MINUTE_MS
"""Sweeps come once a second: what waits longer is not swept."""
WAITING_MS_MAX: Final = 10 * MINUTE_MS
"""How old a backlog grows before somebody is asked whether it is wanted."""
TICK_MS_MAX: Final = 1 * MINUTE_MS
FULL_PERCENT: Final = 80
NAMES_MAX: Final = 5


def schema(found: SchemaState) -> Finding:
    if found.problem is not None:
        return fail("schema", found.problem, found.hint)
    if not found.applied:
        return fail("schema", "this is no conveyor store", "name another with `--url` or CONVEYOR_URL")
    if found.due:
        names = _list([each.name for each in found.due])
        return warn("schema", f"{len(found.due)} due: {names}", "run `conveyor migrate`; opening the store does it too")
    return fine("schema", f"version {found.applied[-1].number}, as shipped")


def clock(belt: BeltFacts) -> Finding:
    drift_ms = belt.clock_drift_ms
    if drift_ms is None:
        return fine("clock", "set anew at the next opening: the machine has started since")
    found = f"{abs(drift_ms) / 1000:.1f} s {'before' if drift_ms > 0 else 'behind'} the wall clock"
    if abs(drift_ms) <= DRIFT_MS_MAX:
        return fine("clock", found)
    if not belt.is_of_one_host:
        return warn("clock", f"the server's is {found} of this machine", "run NTP on both: the server's clock decides")
    return warn("clock", found, "set when the file is opened and no worker lives: stop all workers once")


def owners(belt: BeltFacts) -> Finding:
    living = _living(belt)
    hosts = {each.info.host for each in living}
    expired = len(belt.owners) - len(living)
    found = f"{len(living)} living" + (f" on {len(hosts)} host(s)" if living else "") + f", {expired} expired"
    others = _list(sorted(each for each in hosts if each.partition("/")[0] != belt.host))
    if belt.is_of_one_host and others:
        return warn("owners", f"{found}; of another machine or boot: {others}", "one SQLite file serves one machine")
    return fine("owners", found)


def sweep(belt: BeltFacts) -> Finding:
    ages = {kind: belt.now - since for kind, since in belt.due_since.items()}
    late = {kind: age for kind, age in ages.items() if age > LAG_MS_MAX}
    hint = "a worker or a server of any app sweeps: start one, or look at its log"
    if late:
        return warn("sweep", "waiting: " + _list([f"{kind} for {show_age(age)}" for kind, age in late.items()]), hint)
    if belt.purged_rows and not _living(belt):
        return warn("sweep", f"{belt.purged_rows:,} purged rows wait", hint)
    worst = max(ages.values(), default=0)
    return fine("sweep", f"at most {show_age(worst)} behind; {belt.purged_rows:,} purged rows wait")


def consumers(belt: BeltFacts) -> Finding:
    """Queues that nobody empties."""
    dead_queues = {each.info.consumer.dead_letter_queue for each in belt.queues if each.info.consumer is not None}
    stuck = []
    for each in belt.queues:
        age = _age(belt, each)
        if age > WAITING_MS_MAX and each.info.name not in dead_queues:
            why = _why_stuck(belt, each)
            if why:
                stuck.append(f"`{each.info.name}` ({why}), {show_age(age)}")
    if stuck:
        hint = "start the app that consumes it, resume or purge it: messages expire at the queue's retention"
        return warn("consumers", f"messages wait in {_list(stuck)}", hint)
    clocked = [each for each in belt.queues if _is_by_clock(each)]
    names = [f"`{each.info.name}` waits for the tick at {_next_tick(belt, each)}" for each in clocked]
    waits = f"; by `cron` {_list(names)}" if names else ""
    return fine("consumers", f"{len(belt.queues)} queue(s), none waits in vain{waits}")


def _is_by_clock(each: QueueFacts) -> bool:
    consumer = each.info.consumer
    return consumer is not None and consumer.dispatch is Dispatch.CRON and each.metrics.backlog_messages > 0


def _next_tick(belt: BeltFacts, each: QueueFacts) -> str:
    assert each.info.consumer is not None, "it goes by the clock"
    tick = ticks_of(each.info.consumer.dispatch_cron).next_after(belt.now)
    return "a time unknown" if tick is None else f"{datetime.fromtimestamp(tick / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _outlives(belt: BeltFacts, each: QueueFacts) -> bool:
    """Whether the last of what waits for ticks would wait longer than the queue retains it, at the pace of the next."""
    if not _is_by_clock(each) or each.info.consumer is None:
        return False
    ticks = ticks_of(each.info.consumer.dispatch_cron)
    first = ticks.next_after(belt.now)
    second = None if first is None else ticks.next_after(first)
    if first is None or second is None:
        return True
    rounds = each.metrics.backlog_messages // each.info.consumer.dispatch_messages
    return first - belt.now + rounds * (second - first) > each.info.settings.retention_ms


def _age(belt: BeltFacts, each: QueueFacts) -> int:
    oldest = each.metrics.oldest_ready_at
    return 0 if oldest is None else belt.now - oldest


def _why_stuck(belt: BeltFacts, each: QueueFacts) -> str:
    consumer = each.info.consumer
    if consumer is None:
        return "no consumer"
    if each.info.paused:
        return "paused"
    has_workers = any(owner.info.may_run(consumer.script) for owner in _living(belt))
    if consumer.type is ConsumerType.WORKER and not has_workers:
        return f"no worker of `{consumer.script}` lives"
    if _outlives(belt, each):
        going = f"{consumer.dispatch_messages} at each tick of `{consumer.dispatch_cron}`"
        return f"by `cron` go {going}: the last would be too old by then"
    return ""


def dead_letters(belt: BeltFacts) -> Finding:
    waiting = [each for each in belt.queues if each.dead_letters]
    if not waiting:
        return fine("dead letters", "none wait")
    names = _list([f"{each.dead_letters:,} in `{each.info.name}`" for each in waiting])
    return warn("dead letters", names, "see `conveyor dlq list QUEUE`, send back with `conveyor dlq redrive QUEUE`")


def backlogs(belt: BeltFacts) -> Finding:
    filled = sorted(((_percent(each), each.info.name) for each in belt.queues), reverse=True)
    near = [f"`{name}` at {percent} %" for percent, name in filled if percent >= FULL_PERCENT]
    if not near:
        highest = f"at most {filled[0][0]} % of its limit" if filled else "no queues"
        return fine("backlogs", highest)
    hint = "start more workers, or raise the limit with `conveyor queues update`: a full queue refuses sends"
    return (fail if filled[0][0] >= 100 else warn)("backlogs", _list(near), hint)


def _percent(each: QueueFacts) -> int:
    settings, metrics = each.info.settings, each.metrics
    messages = metrics.backlog_messages * 100 // (settings.max_backlog_messages or 2**62)
    return max(messages, metrics.backlog_bytes * 100 // settings.max_backlog_bytes)


def schedules(belt: BeltFacts) -> Finding:
    late = [each for each in belt.schedules if _late_ms(belt, each) > TICK_MS_MAX]
    if not late:
        return fine("schedules", f"{len(belt.schedules)} schedule(s), none is late")
    names = _list([f"`{each.draft.name}` by {show_age(_late_ms(belt, each))}" for each in late])
    apps = _list(sorted({f"`{each.draft.app}`" for each in late}))
    return warn("schedules", f"late: {names}", f"no process fires them: start {apps}, or `conveyor cron pause` them")


def _late_ms(belt: BeltFacts, schedule: Schedule) -> int:
    if schedule.paused or schedule.next_tick is None:
        return 0
    return belt.now - schedule.next_tick


def _living(belt: BeltFacts) -> list[OwnerRow]:
    return [each for each in belt.owners if each.lease_until > belt.now]


def _list(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more
