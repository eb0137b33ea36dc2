"""`python -m conveyor.sim --seed N [--trace]`, `--seeds A-B`: worlds by their seeds."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import click

from conveyor.sim.world import Report, run_seed


@click.command()
@click.option("--seed", type=int, default=1, help="One world.")
@click.option("--seeds", help="Many, as in `1-200`.")
@click.option("--jobs", type=int, default=1, help="Processes for many.")
@click.option("--trace", is_flag=True, help="Print everything that happens.")
def main(seed: int, seeds: str | None, jobs: int, trace: bool) -> None:
    """Run simulated worlds; the exit code tells whether an invariant was broken."""
    if seeds is None:
        report = run_seed(seed, traces=click.echo if trace else None)
        show(report)
        sys.exit(1 if report.violations else 0)
    first, _, last = seeds.partition("-")
    wanted = range(int(first), int(last or first) + 1)
    failed = 0
    with ProcessPoolExecutor(jobs) as pool:
        for report in pool.map(run_seed, wanted, chunksize=4):
            if report.violations:
                failed += 1
                show(report)
    click.echo(f"{len(wanted)} seeds, {failed} failed")
    sys.exit(1 if failed else 0)


def show(report: Report) -> None:
    """A seed's fate; what is needed to see it again stands first."""
    click.echo(
        f"seed {report.seed} at {commit()}: {report.messages} messages, {report.calls} calls, {report.steps} steps, "
        f"{report.life_s:.0f} s of life, trace {report.digest}, {', '.join(report.features)}"
    )
    for text in report.violations[:5]:
        click.echo(f"  {text}")
    if report.violations:
        click.echo(f"  again: python -m conveyor.sim --seed {report.seed} --trace")


def commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return "?"
    return found.stdout.strip() or "?"


if __name__ == "__main__":
    main()
