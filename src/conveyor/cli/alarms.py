"""`conveyor alarms`: the durable timers that apps set with `app.alarm("name")`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from conveyor.alarms import AHEAD_MS_MAX, set_by_hand
from conveyor.alarms import rearm as arm_again
from conveyor.cli.answers import DurationType, ask, print_facts, print_rows, say, show_moment, store_options
from conveyor.model.beside import AlarmNotFoundError
from conveyor.model.ids import IdSource
from conveyor.store.protocol import Store
from conveyor.store.records import Alarm

_COLUMNS: Final = ("name", "state", "due", "next", "attempts", "error", "queue")


@click.group()
def alarms() -> None:
    """List alarms, set them by hand, arm those that are parked again, cancel them.

    \b
    Example:
      conveyor alarms list --parked
      conveyor alarms rearm cart-42
    """


@alarms.command("list")
@click.option("--parked", is_flag=True, help="Only those whose retries are spent.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")
@click.option("--after", default=None, metavar="NAME", help="Only names that come after this one.")
@store_options
def list_alarms(*, parked: bool, limit: int, after: str | None, url: str | None, as_json: bool) -> None:
    """Alarms by name: how they stand, and when they ring."""
    found = ask(url, lambda store: store.list_alarms(limit=limit, after=after, only_parked=parked))
    empty = "no alarm is parked" if parked else 'no alarms; an app sets them with `app.alarm("name").set("5m")`'
    print_rows([_row(each) for each in found], columns=_COLUMNS, as_json=as_json, empty=empty)


@alarms.command()
@click.argument("name")
@store_options
def show(name: str, *, url: str | None, as_json: bool) -> None:
    """An alarm as it stands."""

    async def question(store: Store) -> Alarm:
        found = await store.get_alarm(name)
        if found is None:
            raise AlarmNotFoundError(name)
        return found

    print_facts(_row(ask(url, question)), as_json=as_json)


@alarms.command("set")
@click.argument("name")
@click.option("--after", "after_ms", type=DurationType(most_ms=AHEAD_MS_MAX), default=None, help="In 5m, 2h, 3d.")
@click.option("--at", type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"]), default=None,
              help="At this moment, in UTC, as in 2026-01-01T12:00:00Z.")  # fmt: skip
@click.option("--app", default=None, help="Whose it is, where it was never set before.")
@store_options
def set_alarm(
    name: str, *, after_ms: int | None, at: datetime | None, app: str | None, url: str | None, as_json: bool
) -> None:
    """Set an alarm by hand, in place of what it was set to.

    \b
    Example:
      conveyor alarms set cart-42 --after 10m --app shop
      conveyor alarms set cart-42 --at 2026-12-24T18:00:00Z
    """
    if (after_ms is None) == (at is None):
        raise click.UsageError("say when: either --after or --at")
    when = at.replace(tzinfo=UTC) if at is not None else (after_ms or 0) / 1000
    alarm = ask(url, lambda store: set_by_hand(store, IdSource(store.clock), name, when, app=app))
    say(f"`{name}` rings at {show_moment(alarm.next_at)}", _row(alarm), as_json=as_json)


@alarms.command()
@click.argument("name")
@click.option("--after", "after_ms", type=DurationType(most_ms=AHEAD_MS_MAX), default=0, help="When; else at once.")
@store_options
def rearm(name: str, *, after_ms: int, url: str | None, as_json: bool) -> None:
    """Set a parked alarm again, with all its retries."""
    alarm = ask(url, lambda store: arm_again(store, IdSource(store.clock), name, after_ms / 1000))
    say(f"`{name}` rings at {show_moment(alarm.next_at)}", _row(alarm), as_json=as_json)


@alarms.command()
@click.argument("name")
@store_options
def cancel(name: str, *, url: str | None, as_json: bool) -> None:
    """Cancel an alarm; a run that has begun goes on, and is not tried again."""
    if not ask(url, lambda store: store.cancel_alarm(name)):
        raise AlarmNotFoundError(name)
    say(f"`{name}` is cancelled", {"alarm": name, "cancelled": True}, as_json=as_json)


def _row(alarm: Alarm) -> dict[str, Any]:
    return {
        "name": alarm.name,
        "state": alarm.state.value,
        "due": show_moment(alarm.due_at),
        "next": show_moment(alarm.next_at),
        "attempts": alarm.attempts,
        "error": alarm.error,
        "failed_at": show_moment(alarm.failed_at),
        "set_at": show_moment(alarm.set_at),
        "queue": alarm.queue,
        "message_id": alarm.message_id.hex(),
    }
