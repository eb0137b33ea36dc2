"""`conveyor cron`: schedules, their runs, and a hand on the switch."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from conveyor.cli.answers import ask, chosen_stores, print_facts, print_rows, say, show_moment, store_options
from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.cron_expression import CronExpression, Syntax
from conveyor.store.protocol import Store
from conveyor.store.records import Run, Schedule

_COLUMNS = ("name", "expression", "timezone", "next_tick", "paused", "last_run", "app")
_RUN_COLUMNS = ("tick", "trigger", "status", "seconds", "correlation_id", "error")


@click.group()
def cron() -> None:
    """List schedules and their runs; trigger, pause and resume them.

    \b
    Example:
      conveyor cron list
      conveyor cron history daily
    """


@cron.command("list")
@store_options
def list_schedules(*, url: str | None, as_json: bool) -> None:
    """All schedules, when they tick next, and how they last went."""

    async def question(store: Store) -> list[dict[str, Any]]:
        return [_row(each, await _last_run(store, each)) for each in await store.list_schedules()]

    empty = "no schedules yet; an app declares them with `@app.cron(...)`"
    print_rows(ask(url, question), columns=_COLUMNS, as_json=as_json, empty=empty)


@cron.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="At most so many.")
@store_options
def history(name: str, *, limit: int, url: str | None, as_json: bool) -> None:
    """Runs of a schedule, the newest first."""
    rows = [_run_row(each) for each in ask(url, lambda store: store.list_runs(name, limit=limit))]
    print_rows(rows, columns=_RUN_COLUMNS, as_json=as_json, empty=f"`{name}` has not run yet")


@cron.command()
@click.argument("target", metavar="MODULE:APP")
@click.argument("name")
@click.option("--correlation-id", default=None, help="To find the run again; else one is made.")
@store_options
def trigger(target: str, name: str, *, correlation_id: str | None, url: str | None, as_json: bool) -> None:
    """Run a schedule now, also while it is paused. Workers of the app must be up to handle it.

    \b
    Example:
      conveyor cron trigger shop:app daily
    """
    from conveyor.loader import check_store, load_app

    app = load_app(target)
    if url is not None:
        check_store(app, chosen_stores(url))

    async def fire() -> str:
        async with app:
            return await app.trigger(name, correlation_id=correlation_id)

    run = asyncio.run(fire())
    if as_json:
        print_facts({"schedule": name, "correlation_id": run}, as_json=True)
    else:
        click.echo(f"triggered `{name}` as `{run}`; see `conveyor cron history {name}`")


@cron.command()
@click.argument("name")
@store_options
def pause(name: str, *, url: str | None, as_json: bool) -> None:
    """Fire nothing until `resume`; ticks of the meantime are not made up for."""
    ask(url, lambda store: store.pause_schedule(name))
    say(f"`{name}` rests", {"schedule": name, "paused": True}, as_json=as_json)


@cron.command()
@click.argument("name")
@store_options
def resume(name: str, *, url: str | None, as_json: bool) -> None:
    """Fire again, from the next tick on."""

    async def question(store: Store) -> str | None:
        draft = (await store.get_schedule(name)).draft
        expression = CronExpression.parse(draft.expression, syntax=Syntax(draft.syntax), timezone=draft.timezone)
        next_tick = expression.next_after(store.clock.now_ms())
        await store.resume_schedule(name, next_tick)
        return show_moment(next_tick)

    next_tick = ask(url, question)
    facts = {"schedule": name, "paused": False, "next_tick": next_tick}
    say(f"`{name}` ticks next at {next_tick}", facts, as_json=as_json)


async def _last_run(store: Store, schedule: Schedule) -> Run | None:
    try:
        runs = await store.list_runs(schedule.draft.name, limit=1)
    except ScheduleNotFoundError:  # gone since it was listed
        return None
    return runs[0] if runs else None


def _row(schedule: Schedule, last: Run | None) -> dict[str, Any]:
    draft = schedule.draft
    return {
        "name": draft.name,
        "expression": draft.expression,
        "timezone": draft.timezone,
        "next_tick": None if schedule.paused else show_moment(schedule.next_tick),
        "paused": schedule.paused,
        "last_run": None if last is None else last.status.value,
        "app": draft.app,
        "queue": draft.queue,
        "misfire": draft.misfire,
        "overlap": draft.overlap,
        "jitter_ms": draft.jitter_ms,
        "version": schedule.version,
    }


def _run_row(run: Run) -> dict[str, Any]:
    is_timed = run.started_at is not None and run.finished_at is not None
    return {
        "tick": show_moment(run.tick),
        "trigger": run.trigger,
        "status": run.status.value,
        "seconds": (run.finished_at - run.started_at) / 1000 if is_timed else None,  # type: ignore[operator]  # both are there
        "correlation_id": run.correlation_id,
        "error": run.error,
        "fired_at": show_moment(run.fired_at),
        "started_at": show_moment(run.started_at),
        "finished_at": show_moment(run.finished_at),
    }
