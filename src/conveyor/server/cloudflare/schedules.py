"""Cron triggers of a Worker, which is an app. What the app declares runs; what `wrangler triggers deploy` writes is
kept, shown, and compared with that, so that a cron which nothing runs is told of and never lost."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from conveyor.model.beside import CronSyntaxError
from conveyor.model.cron_dialect import Syntax, read
from conveyor.model.cron_expression import CronExpression
from conveyor.server.cloudflare.dialect import Refusal, moment, succeed
from conveyor.server.cloudflare.scripts import Script, find_script
from conveyor.server.endpoint import Answer, Call, Endpoint
from conveyor.server.rights import Right
from conveyor.store.records import Schedule

CRONS: Final = "crons"
"""The kind of documents that hold an app's crons, by its name."""
CRONS_MAX: Final = 250
INVALID_CRON: Final = 10_100
_STEPS: Final = (59, 23, 30, 11, 6)
"""The largest step of each field: what lies between its ends."""
# What stands alone in a field, and in capitals.
_DAY: Final = re.compile(r"[LW]")
_WEEKDAY: Final = re.compile(r"L(,|$)|#")
_LOWER_DAY: Final = re.compile(r"[lw]")
_LOWER_WEEKDAY: Final = re.compile(r"l(,|$)")


class _Cron(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cron: str
    created_on: str | None = None
    modified_on: str | None = None


async def get_schedules(call: Call) -> Answer:
    return await _answer(call, await find_script(call))


async def put_schedules(call: Call) -> Answer:
    """All of them, in place of those before. A bad one changes nothing."""
    script = await find_script(call)
    wanted = list(dict.fromkeys(each.cron for each in call.decode(list[_Cron])))
    if len(wanted) > CRONS_MAX:
        raise Refusal(INVALID_CRON, f"too many crons: {len(wanted):,}, the limit is {CRONS_MAX}")
    for cron in wanted:
        words = f"invalid cron string: {cron[:256]}"
        try:
            CronExpression.parse(cron, syntax=Syntax.CLOUDFLARE)  # one that never matches is refused too
        except CronSyntaxError as error:
            raise Refusal(INVALID_CRON, words) from error
        if not _is_strict(cron):
            raise Refusal(INVALID_CRON, words)
    await call.store.put_document(CRONS, script.name, msgspec.json.encode(wanted))
    return await _answer(call, script)


def _is_strict(cron: str) -> bool:
    """Whether the original takes this line too: an app may write some that it does not."""
    fields = cron.split()
    if cron != cron.strip() or "?" in cron:
        return False
    days, weekdays = fields[2], fields[4]
    if _LOWER_DAY.search(days) or _LOWER_WEEKDAY.search(weekdays):
        return False
    if ("," in days and _DAY.search(days)) or ("," in weekdays and _WEEKDAY.search(weekdays)):
        return False
    for field, largest in zip(fields, _STEPS, strict=True):
        terms = field.split(",")
        if len(terms) > 1 and "*" in terms:
            return False
        if any(int(each.partition("/")[2] or 1) > largest for each in terms):
            return False
    return True


async def _answer(call: Call, script: Script) -> Answer:
    declared = [each for each in await call.store.list_schedules() if each.draft.app == script.name]
    kept = await call.store.get_document(CRONS, script.name)
    if kept is None:
        crons = list(dict.fromkeys(each.draft.expression for each in declared))
        created = modified = script.created_at
    else:
        crons = msgspec.json.decode(kept.body, type=list[str])
        created, modified = kept.created_at, kept.modified_at
    shown = [
        {
            "cron": cron,
            "created_on": moment(created),
            "modified_on": moment(modified),
            "schedules": [each.draft.name for each in declared if kept is None or _runs(each, cron)],
        }
        for cron in crons
    ]
    idle = [each["cron"] for each in shown if not each["schedules"]]
    return succeed({"schedules": shown, "conveyor": _compare(script, idle)})


def _compare(script: Script, idle: list[Any]) -> dict[str, Any]:
    """What stands in nobody's way, and that an operator should know."""
    hint = f'declare each in `{script.name}` with `@app.cron(..., syntax="cloudflare")`' if idle else ""
    return {"crons_that_nothing_runs": idle, "hint": hint}


def _runs(schedule: Schedule, cron: str) -> bool:
    """Whether an app's schedule ticks when Cloudflare would."""
    draft = schedule.draft
    same = read(draft.expression, Syntax(draft.syntax)) == read(cron, Syntax.CLOUDFLARE)
    return same and draft.timezone == "UTC"


_PATH: Final = "/workers/scripts/{script}/schedules"
ENDPOINTS: Final = (
    Endpoint(method="GET", path=_PATH, right=Right.READ, handle=get_schedules, scope="store"),
    Endpoint(
        method="PUT", path=_PATH, right=Right.MANAGE, handle=put_schedules, scope="store", action="crons.put",
        content_types=(),
    ),
)  # fmt: skip
