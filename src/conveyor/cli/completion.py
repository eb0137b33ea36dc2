"""`conveyor completion`: what a shell must read to complete verbs, options and names of queues."""

from __future__ import annotations

import sys
from typing import Final

import click
from click.shell_completion import get_completion_class

_VARIABLE: Final = "_CONVEYOR_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the completion of verbs, options and queues for your shell.

    \b
    Example:
      conveyor completion bash >> ~/.bashrc
      conveyor completion zsh  >> ~/.zshrc
      conveyor completion fish  > ~/.config/fish/completions/conveyor.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows the three"
    sys.stdout.write(_source(found(ctx.find_root().command, {}, "conveyor", _VARIABLE)))


def _source(completion: object) -> str:
    """Without the look at the machine's own bash: the file may be for another one."""
    template, variables = completion.source_template, completion.source_vars()  # type: ignore[attr-defined]  # one of click's three
    return str(template % variables) + "\n"
