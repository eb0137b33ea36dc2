"""Commands for addresses that nothing more is sent to: `concierge suppressions ...`."""

import click

from .commands_records import CLI, run, show
from .words import Channel

LISTED_MAX = 10_000


@click.group()
def suppressions() -> None:
    """Addresses that nothing more is sent to: they bounced for good, complained, unsubscribed, or asked the staff.

    \b
    Example:
      concierge suppressions add email mia@example.com --note "asked by phone"
      concierge suppressions lift 4f6eba4b2032aa10
    """


@suppressions.command("list")
@click.option("--recipient", help="Only those of this address.")
def list_suppressions(recipient: str | None) -> None:
    """Those that are in force and those that were lifted, the newest first."""
    show(run(lambda room: room.suppressions.page(2**62, "", LISTED_MAX, recipient=recipient)))


@suppressions.command()
@click.argument("channel", type=click.Choice([each.value for each in Channel]))
@click.argument("recipient")
@click.option("--note", default="", help="How we came to know.")
def add(channel: str, recipient: str, note: str) -> None:
    """Send nothing more to this address; the id of the suppression."""
    click.echo(run(lambda room: room.suppressions.add(CLI, Channel(channel), recipient, note)))


@suppressions.command()
@click.argument("suppression")
def lift(suppression: str) -> None:
    """Messages go there again."""
    run(lambda room: room.suppressions.lift(CLI, suppression))
    click.echo(f"{suppression} is lifted")
