"""Commands for what is kept: `concierge verify FILE`, `concierge cleanup TARGET`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from conveyor import ConveyorError

from . import clock
from .audit import Who
from .cleanup import preview_cleanup
from .errors import ConciergeError
from .exports import verify_file
from .jobs import CleanupJob
from .wiring import build_concierge
from .words import Target

NOT_SOUND: Final = 1
NOT_DONE: Final = 2


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--head", help="NUMBER:HASH that the file must end with, as the trail's examination said it.")
@click.option("--sha256", help="What the file's SHA-256 must be, as the export says it.")
def verify(file: Path, head: str | None, sha256: str | None) -> None:
    """Say whether an exported file of the audit trail, or an archive of it, is what was written.

    Needs no database and no server. Where hashes are keyed, CONVEYOR_PEPPER must hold the server's pepper. Ends with 0
    if the file is sound, with 1 if it is not.
    """
    try:
        found = verify_file(file, pepper=os.environ.get("CONVEYOR_PEPPER"), expected=head)
    except ConciergeError as error:
        _give_up(str(error))
    _show(found)
    is_same = sha256 is None or sha256.lower() == found.sha256
    if not is_same:
        click.echo("the file's SHA-256 is another one", err=True)
    if not found.are_hashes_checked:
        click.echo("not one hash fits: are they keyed? CONVEYOR_PEPPER must hold the server's pepper", err=True)
    sys.exit(0 if found.is_sound and is_same else NOT_SOUND)


@click.command()
@click.argument("target", type=click.Choice(list(Target)))
@click.option("--older-than", help="An ISO date or moment; now if nothing is said. Policy keeps what is younger.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
def cleanup(target: str, older_than: str | None, *, dry_run: bool) -> None:
    """Archive and delete what policy keeps no longer; workers do it."""
    job = CleanupJob(target=Target(target), older_than=older_than or clock.iso(clock.now_ms()))
    try:
        job.check()
        _show(asyncio.run(_clean(job, dry_run=dry_run)))
    except (ConciergeError, ConveyorError) as error:
        _give_up(str(error))


async def _clean(job: CleanupJob, *, dry_run: bool) -> Any:
    concierge = build_concierge()
    async with concierge.app:
        room = concierge.doorway.room()
        if dry_run:
            return await preview_cleanup(job, room.context())
        await room.producer.enqueue_cleanup(job, who=Who(os.environ.get("USER", "operator"), "cli"))
        return {"target": job.target, "olderThan": job.older_than, "queued": True}


def _show(what: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(what)).decode())


def _give_up(problem: str) -> NoReturn:
    click.echo(f"concierge: {problem}", err=True)
    sys.exit(NOT_DONE)
