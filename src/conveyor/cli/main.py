"""`conveyor`: its verbs by name, and what happens to errors that reach the top."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from conveyor.model.errors import ConveyorError

_VERBS: Final = {
    "demo": ("conveyor.cli.demo", "Run plotburn end to end against a sandbox, and show what happens."),
    "serve": ("conveyor.cli.run", "Serve HTTP, run schedules and supervised workers, under one command."),
    "work": ("conveyor.cli.run", "Run supervised workers and schedules; as many as share the store."),
    "queues": ("conveyor.cli.queues", "List queues, make and change them and their consumers, pause, purge."),
    "messages": ("conveyor.cli.messages", "Send messages by hand, look at those that wait, pull and settle."),
    "dlq": ("conveyor.cli.dlq", "Look at dead letters, mend them, and send them back where they came from."),
    "jobs": ("conveyor.cli.jobs", "List jobs and their errors; show, explain, cancel them, try them again."),
    "groups": ("conveyor.cli.groups", "List groups and chains, show their members, cancel them."),
    "cron": ("conveyor.cli.cron", "List schedules and their runs; trigger, pause and resume them."),
    "alarms": ("conveyor.cli.alarms", "List alarms, set them, arm those that are parked again, cancel them."),
    "webhooks": ("conveyor.cli.webhooks", "Look after endpoints, their secrets and their deliveries."),
    "kv": ("conveyor.cli.kv", "Read and write named values."),
    "keys": ("conveyor.cli.keys", "Make and list the keys of what lies encrypted, and seal anew with a new one."),
    "tokens": ("conveyor.cli.tokens", "Make, list, rotate and revoke the tokens of the server."),
    "retention": ("conveyor.cli.retention", "Say for how long is kept what has ended, and see what would go."),
    "audit": ("conveyor.cli.audit", "Read the trail of changes, and prove that it is whole."),
    "tail": ("conveyor.cli.tail", "Show a server's live events, as they happen."),
    "doctor": ("conveyor.cli.doctor", "Examine the store, and say what to do."),
    "backup": ("conveyor.cli.keeping", "Copy the store while workers run."),
    "restore": ("conveyor.cli.keeping", "Put a backup into the store's place."),
    "move": ("conveyor.cli.moving", "Take everything in one store to another: SQLite to PostgreSQL, and back."),
    "completion": ("conveyor.cli.completion", "Let your shell complete verbs, options and names of queues."),
    "migrate": ("conveyor.cli.keeping", "Bring the store's schema up to this release, or show it."),
}


class _Verbs(click.Group):
    """Knows every verb's name and sentence without importing it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Of names that are not there, the nearest one that is."""
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(_VERBS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in _VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="conveyor")
def _conveyor() -> None:
    """Cloudflare Queues, Cron Triggers and durable timers for Python, on your own machine.

    Start with `conveyor demo`. The store is named by CONVEYOR_URL (default: sqlite:///conveyor.db).
    """


def main(arguments: Sequence[str] | None = None) -> Any:
    """Exit codes: 0 ok, 1 the operation failed, 2 usage."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        _conveyor(given)
    except ConveyorError as error:
        _complain(error.message, error.code, error.hint, as_json="--json" in given)
    except OSError as error:
        where = f"`{error.filename}`: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}", "os_error", "", as_json="--json" in given)


def _complain(message: str, code: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        import msgspec

        text = msgspec.json.encode({"error": {"code": code, "message": message, "hint": hint or None}}).decode()
    else:
        text = f"conveyor: {message} [{code}]" + (f"\n  hint: {hint}" if hint else "")
    click.echo(text, err=True)
    sys.exit(1)
