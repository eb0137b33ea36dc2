"""`concierge`: serve it, work for it, look into its queue, make accounts, examine the trail."""

import functools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from conveyor import ConveyorError

from . import clock
from .audit import SYSTEM, Who
from .commands_addresses import suppressions
from .commands_records import cleanup, holds, owner_alone, run_open, verify
from .desk_queue import shown_job, status_of, test_jobs
from .errors import ConciergeError, RefusedError, SettingError
from .jobs import EmailJob
from .people import NewUser
from .room import Room
from .trial import become, begin_trial, end_trial, has_providers, is_trial, running_sandbox, sandbox_beside
from .words import FINAL, Role, State

T = TypeVar("T")

TARGET = "conveyor_apps.concierge.served:app"
CLI = Who("cli")
FOLLOW_S = 60.0
NOBODY = "no provider is set up here (SMTP_URL, RESEND_API_KEY, TWILIO_AUTH_TOKEN): what it takes is tried again later"
NO_TRIAL = (
    "no provider is set up (SMTP_URL, RESEND_API_KEY or TWILIO_AUTH_TOKEN), and people work here already: this is no "
    "place for a trial. Set one, or give the trial a CONVEYOR_URL and CONCIERGE_DATA of its own"
)
BESIDE = "no provider is set up here: messages go to the sandbox of the server that runs beside, {}/inbox"
GUIDE = """
\b
Without settings of providers a sandbox runs beside it: mail and text messages go no further than its web inbox,
and four people are there, one of each role, whose passwords are shown.

\b
  concierge                                  serve, with workers: http://127.0.0.1:8787
  concierge serve --port 9000                what follows is handed on to `conveyor serve`
  concierge queue demo                       one e-mail, followed on its way
  concierge queue test                       one job of each of the four types
  concierge queue status                     totals, failure rate, what happened lately
  concierge queue consumer                   a worker without a server
  concierge users add mia --role clinician --address mia@clinic.example    its password is asked for
  concierge users password mia               another one; sessions and tokens end
  concierge users token mia                  a token of theirs for programs, shown once
  concierge verify                           whether the audit trail is as it was written
  concierge verify trail.csv                 whether an exported file of it is
  concierge cleanup message_queue --dry-run  what policy would take away
  concierge holds place user mia --reason …  a legal hold: nothing of theirs is deleted
  concierge suppressions list                addresses that nothing more is sent to

\b
Settings (all in README.md):
  CONVEYOR_URL    where the queue and the tables lie   sqlite:///conveyor.db
  SMTP_URL        smtp://user:password@host:587        RESEND_API_KEY, TWILIO_AUTH_TOKEN as well, or instead
  CONCIERGE_URL   how browsers and providers reach it  http://127.0.0.1:8787
"""


@click.group(invoke_without_command=True, epilog=GUIDE, context_settings={"max_content_width": 110})
@click.pass_context
def main(context: click.Context) -> None:
    """Messages that must arrive: drafts, reviews, e-mail and SMS through a queue, exports, cleanup, an audit trail."""
    if context.invoked_subcommand is None:
        context.invoke(serve, rest=())


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def serve(rest: tuple[str, ...]) -> None:
    """Serve the HTTP, run workers and schedules. Options go to `conveyor serve`: --port, --processes, --certificate.

    \b
    Example:
      concierge serve --port 9000 --processes 4
    """
    with owner_alone():
        _serve(rest)


def _serve(rest: tuple[str, ...]) -> None:
    environment = _speaking(os.environ)
    for each, following in zip(rest, (*rest, "")[1:], strict=True):
        if each == "--port" or each.startswith("--port="):  # providers and workers have to know it too
            environment["CONVEYOR_PORT"] = each.partition("=")[2] or following
    command = [sys.executable, "-m", "conveyor", "serve", TARGET, *rest]
    os.environ.update(environment)
    data = _data_of(environment)
    if has_providers(environment):
        end_trial(data)
        _say_passwords(_run(_first_admin), "The first account, whose password is not shown again:")
        become(command, environment)
    try:
        with sandbox_beside(data) as found:
            os.environ.update(found)
            passwords = _run(functools.partial(trial_people, data=data))
            _say_passwords(passwords, "Accounts of this trial, with passwords of this start:")
            click.echo(f"Mail and text messages stay in the sandbox: {found['SANDBOX_URL']}/inbox", err=True)
            sys.exit(_wait(command))
    except ConciergeError as error:
        raise click.ClickException(str(error)) from None


def _data_of(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("CONCIERGE_DATA") or "concierge-data")


def _wait(command: list[str]) -> int:
    """Until the server ends; signals are its own to hear."""
    process = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _frame: process.send_signal(given))
    return process.wait()


def _speaking(environment: Mapping[str, str]) -> dict[str, str]:
    """The queue's own lines in JSON beside concierge's, unless somebody wants them otherwise."""
    return {"CONVEYOR_LOG": "json", **environment}


def _say_passwords(passwords: dict[str, str], heading: str) -> None:
    if passwords:
        click.echo(heading, err=True)
    for name, password in passwords.items():
        click.echo(f"  {name:<10} {password}", err=True)


async def trial_people(room: Room, *, data: Path) -> dict[str, str]:
    """One of each role, with passwords of this start. `SettingError` where people work already: what they send would
    go nowhere, and their passwords would be others."""
    if not is_trial(data) and await room.people.users():
        raise SettingError(NO_TRIAL)
    found = {role.value: secrets.token_urlsafe(12) for role in Role}
    for name, password in found.items():
        new = NewUser(name=name, role=Role(name), address=f"{name}@example.com", password=password)
        if not await room.people.add(new):
            await room.people.set_password(name, password, SYSTEM)
    begin_trial(data)
    return found


async def _first_admin(room: Room) -> dict[str, str]:
    """Where nobody is, an admin, whose password is shown this once."""
    if await room.people.users():
        return {}
    password = secrets.token_urlsafe(12)
    await room.people.add(NewUser(name="admin", role=Role.ADMIN, address="admin@localhost", password=password))
    return {"admin": password}


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def work(rest: tuple[str, ...]) -> None:
    """Workers and schedules only, on any machine that reaches the store. Options go to `conveyor work`."""
    _work(rest)


@main.group()
def queue() -> None:
    """Look into the queue `message-delivery`, and try it."""


@queue.command()
def demo() -> None:
    """One e-mail, followed until it is over, or for a minute."""

    async def follow(room: Room) -> str:
        job = EmailJob(
            message_id=f"demo-{secrets.token_hex(6)}", recipient="demo@example.com", subject="Hello",
            content="This came through the queue.",
        )  # fmt: skip
        await room.producer.enqueue_email(job, who=CLI)
        seen, until_s = 0, clock.monotonic_s() + FOLLOW_S
        while clock.monotonic_s() < until_s:
            for line in (await room.messages.history(job.message_id))[seen:]:
                click.echo(f"{line.at}  {line.event:<10} {line.detail}")
                seen += 1
            found = await room.messages.find(job.message_id)
            if found is not None and (found.state is State.SENT or found.state in FINAL):
                return found.state
            await clock.pause(0.2)
        return State.QUEUED

    if _run(follow) not in (State.SENT, State.DELIVERED):
        raise click.ClickException("it has not gone: does a worker run? (concierge queue consumer)")


@queue.command()
@click.option("--json", "as_json", is_flag=True, help="The whole answer of /debug/queue-status.")
def status(*, as_json: bool) -> None:
    """Totals, failure rate, what happened lately."""
    found = _run(status_of)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    totals = found["totals"]
    stand = f"{totals['total']} messages, {totals['queued']} queued, {totals['processing']} being sent"
    click.echo(f"{found['status']}: {stand}, {totals['failed']} failed ({found['failureRate']:.1%})")
    click.echo(f"{found['backlog']} jobs in the queue, with those for later; {found['deadLetters']} dead letters")
    for each in found["warnings"]:
        click.echo(f"warning: {each}")
    for each in found["recentActivity"]:
        click.echo(f"{each['at']}  {each['event']:<12} {each['message']}")


@queue.command("test")
def try_all() -> None:
    """One job of each type: email_send, sms_send, export_generation, cleanup."""
    jobs = test_jobs("admin")

    async def enqueue(room: Room) -> None:
        await room.producer.enqueue_batch(jobs, who=CLI)

    _run(enqueue)
    for job in jobs:
        click.echo(" ".join(f"{name}={value}" for name, value in shown_job(job).items()))


@queue.command(context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def consumer(rest: tuple[str, ...]) -> None:
    """A worker for this queue. Options go to `conveyor work`: --processes, --concurrency."""
    _work(rest)


def _work(rest: tuple[str, ...]) -> None:
    environment = _speaking(os.environ)
    if not has_providers(environment):
        found = running_sandbox(_data_of(environment))
        click.echo(BESIDE.format(found["SANDBOX_URL"]) if found else NOBODY, err=True)
        environment |= found
    with owner_alone():
        become([sys.executable, "-m", "conveyor", "work", TARGET, *rest], environment)


@main.group()
def users() -> None:
    """Accounts."""


@users.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--address", required=True, help="Where notices go.")
@click.password_option(help="Asked for, if not given. 12 characters or more.")
def add_user(name: str, role: str, address: str, password: str) -> None:
    """Make an account."""
    new = NewUser(name=name, role=Role(role), address=address, password=password)

    async def add(room: Room) -> bool:
        return await room.people.add(new, CLI)

    if not _run(add):
        raise click.ClickException(f"there is a user `{name}` already")
    click.echo(f"{name}: {role}")


@users.command("list")
def list_users() -> None:
    """All accounts."""
    for each in _run(lambda room: room.people.users()):
        click.echo(f"{each.name:<20} {each.role:<10} {each.address}{'  disabled' if each.disabled else ''}")


@users.command("password")
@click.argument("name")
@click.password_option(help="Asked for, if not given. 12 characters or more.")
def set_password(name: str, password: str) -> None:
    """Give somebody another password; their sessions and tokens end."""
    _run(lambda room: room.people.set_password(name, password, CLI))
    click.echo(f"{name}: another password")


@users.command("token")
@click.argument("name")
@click.option("--title", default="from the command line", show_default=True, help="What it is for.")
@click.option("--days", default=90, show_default=True, help="For how long it is good.")
def make_token(name: str, title: str, days: int) -> None:
    """Make a token for programs, with all rights of this account; it is shown this once.

    \b
    Example:
      TOKEN=$(concierge users token admin)
    """

    async def make(room: Room) -> str:
        if await room.people.address_of(name) is None:
            raise RefusedError(f"There is no user `{name}`.", status=404)
        return await room.people.add_token(name, title, CLI, days=days)

    click.echo(_run(make))


for command in (verify, cleanup, holds, suppressions):
    main.add_command(command)


def _run(work: Callable[[Room], Awaitable[T]]) -> T:
    """With the app open in this process."""
    try:
        return run_open(work)
    except (ConciergeError, ConveyorError) as error:
        raise click.ClickException(str(error)) from None
