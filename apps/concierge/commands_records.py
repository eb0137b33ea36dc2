"""Commands for what is kept: `concierge verify [FILE]`, `concierge cleanup TARGET`, `concierge holds ...`."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import msgspec

from conveyor import ConveyorError

from . import clock
from .audit import Who
from .cleanup import preview_cleanup
from .cleanup.holds import HoldKind
from .errors import ConciergeError
from .exports import verify_file
from .jobs import CleanupJob
from .room import Room
from .wiring import build_concierge
from .words import Target

T = TypeVar("T")

CLI: Final = Who("cli")

HEAD: Final = re.compile(r"[0-9]{1,18}:[0-9a-f]{64}")
NOT_SOUND: Final = 1
NOT_DONE: Final = 2


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--expected", help="NUMBER:HASH: the head of an earlier examination; of a file, what it must end with.")
@click.option("--sha256", help="What the file's SHA-256 must be, as its export says it.")
def verify(file: Path | None, expected: str | None, sha256: str | None) -> None:
    """Say whether the audit trail is as it was written: all of it, or an exported or archived FILE of it.

    A file needs no database and no server. Where hashes are keyed, CONVEYOR_PEPPER must hold the server's pepper. Ends
    with 0 if nothing is wrong, with 1 if something is.
    """
    if expected is not None and not HEAD.fullmatch(expected):
        raise click.BadParameter("must be NUMBER:HASH", param_hint="--expected")
    if file is None:
        _verify_all(expected)
    try:
        found = verify_file(file, pepper=os.environ.get("CONVEYOR_PEPPER"), expected=expected)
    except ConciergeError as error:
        _give_up(str(error))
    show(found)
    is_same = sha256 is None or sha256.lower() == found.sha256
    if not is_same:
        click.echo("the file's SHA-256 is another one", err=True)
    if not found.are_hashes_checked:
        click.echo("not one hash fits: are they keyed? CONVEYOR_PEPPER must hold the server's pepper", err=True)
    sys.exit(0 if found.is_sound and is_same else NOT_SOUND)


def _verify_all(expected: str | None) -> NoReturn:
    examined = run(lambda room: room.trail.verify(expected=expected))
    show(examined)
    sys.exit(NOT_SOUND if examined.faults else 0)


@click.command()
@click.argument("target", type=click.Choice([each.value for each in Target]))
@click.option("--older-than", help="An ISO date or moment; now if nothing is said. Policy keeps what is younger.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
def cleanup(target: str, older_than: str | None, *, dry_run: bool) -> None:
    """Archive and delete what policy keeps no longer; workers do it."""
    job = CleanupJob(target=Target(target), older_than=older_than or clock.iso(clock.now_ms()))
    try:
        job.check()
    except ConciergeError as error:
        _give_up(str(error))

    async def clean(room: Room) -> Any:
        if dry_run:
            return await preview_cleanup(job, room.context())
        await room.producer.enqueue_cleanup(job, who=CLI)
        return {"target": job.target, "olderThan": job.older_than, "queued": True}

    show(run(clean))


@click.group()
def holds() -> None:
    """Legal holds: what no cleanup takes away, whatever its age.

    \b
    Example:
      concierge holds place user mia --reason "case 12 B 345"
      concierge holds lift 4f6eba4b2032aa10
    """


@holds.command("list")
def list_holds() -> None:
    """Those that hold, then those that were lifted; the newest first."""
    show(run(lambda room: room.holds.list()))


@holds.command()
@click.argument("kind", type=click.Choice([each.value for each in HoldKind]))
@click.argument("subject", default="")
@click.option("--reason", required=True, help="Why, for whoever lifts it.")
def place(kind: str, subject: str, reason: str) -> None:
    """Hold all, or what has to do with this user, message, recipient or export; the id of the hold."""
    click.echo(run(lambda room: room.holds.place(CLI, HoldKind(kind), subject, reason)))


@holds.command()
@click.argument("hold")
def lift(hold: str) -> None:
    """What this one held may go."""
    run(lambda room: room.holds.lift(CLI, hold))
    click.echo(f"{hold} is lifted")


@contextlib.contextmanager
def owner_alone() -> Iterator[None]:
    """What is made meanwhile holds names and texts: nobody else on the machine may read it."""
    former = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(former)


def run_open(work: Callable[[Room], Awaitable[T]]) -> T:
    """With the app open in this process. `ConciergeError`, `ConveyorError`."""

    async def open_and_work() -> T:
        concierge = build_concierge()
        async with concierge.app:
            return await work(concierge.doorway.room())

    with owner_alone():
        return asyncio.run(open_and_work())


def run(work: Callable[[Room], Awaitable[T]]) -> T:
    """As `run_open`; what went wrong is said, and ends the command."""
    try:
        return run_open(work)
    except (ConciergeError, ConveyorError) as error:
        _give_up(str(error))


def show(what: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(what)).decode())


def _give_up(problem: str) -> NoReturn:
    click.echo(f"concierge: {problem}", err=True)
    sys.exit(NOT_DONE)
