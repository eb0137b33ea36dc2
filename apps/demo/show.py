"""The show: open the stage, play two days, judge the numbers, and clean up whatever happens."""

import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from .children import Children
from .interrupts import Interrupts
from .progress import Progress
from .screen import open_screen
from .settings import DemoError, DemoSettings, DemoUsageError
from .stage import Stage
from .summary import Day, judge, print_directions, print_summary, print_verdict

POLL_S: Final = 0.15
EXIT_INTERRUPTED: Final = 130


def main(
    *,
    keep: bool = False,
    movies: int = 50,
    processes: int = 2,
    data: Path | None = None,
    console: Console | None = None,
) -> int:
    """Play the demo; 0 only if the numbers are right, 1 if not, 2 on wrong flags, 130 on Ctrl-C."""
    settings = DemoSettings(keep=keep, movies=movies, processes=processes, data=data)
    console = console or Console(highlight=False)
    interrupts = Interrupts()
    try:
        settings.check()
        with interrupts.listening():
            return _play(settings, console, interrupts)
    except DemoUsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.print(Text("\nstopped; nothing is left running"))
        return EXIT_INTERRUPTED


def _play(settings: DemoSettings, console: Console, interrupts: Interrupts) -> int:
    with ExitStack() as stack:
        folder = _open_folder(settings, stack)
        stage = Stage(settings, stack.enter_context(Children(interrupts)), folder)
        stack.enter_context(closing(stage))
        console.print(Text("conveyor demo: plotburn roasts every movie in the cinemas", style="bold"))
        stage.open()
        _print_setting(console, stage)
        problems = _play_days(stage, console)
        print_directions(console, stage)
        if settings.keep:
            _wait_for_interrupt(stage, console)
        return 1 if problems else 0


def _open_folder(settings: DemoSettings, stack: ExitStack) -> Path:
    if settings.data is None:
        return Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="conveyor-demo-", ignore_cleanup_errors=True))
        )
    settings.data.mkdir(parents=True, exist_ok=True)
    return settings.data.resolve()


def _print_setting(console: Console, stage: Stage) -> None:
    settings = stage.settings
    console.print(Text(f"  store      {stage.store_url}"), soft_wrap=True)
    console.print(Text(f"  server     {stage.url}, {settings.processes} worker processes, at most 2 roasts at a time"))
    console.print(
        Text(f"  providers  {stage.sandbox_url} (a sandbox that stumbles: 429s, 5xx, one movie that is gone)")
    )


def _play_days(stage: Stage, console: Console) -> list[str]:
    today = stage.movie_ids()
    console.print(Text(f"\nday 1: {len(today)} movies, none known yet", style="bold"))
    first = Day(name="day 1", progress=play_run(stage, console), movies=len(today), new=len(today) - 1)
    stage.start_day(1)
    tomorrow = stage.movie_ids()
    new = len(set(tomorrow) - set(today))
    console.print(Text(f"\nday 2: {new} new release{'s' if new > 1 else ''}, everything else is known", style="bold"))
    second = Day(name="day 2", progress=play_run(stage, console), movies=len(tomorrow), new=new)
    print_summary(console, first, second, stage.status())
    problems = judge(first, second, gone_movie_id=stage.gone_movie_id)
    print_verdict(console, problems, first)
    return problems


def play_run(stage: Stage, console: Console) -> Progress:
    """Trigger a run and show it until it ends."""
    start, progress = time.monotonic(), Progress()
    run = stage.trigger()
    with open_screen(console) as screen:
        while not progress.is_over:
            stage.check_alive()
            seconds = time.monotonic() - start
            if seconds > stage.settings.run_s_max:
                raise DemoError(f"run {run} did not end in {stage.settings.run_s_max:.0f} s: {progress.outcomes}")
            screen.show(progress, progress.take(stage.debug(run), stage.calls(), seconds=seconds))
            time.sleep(0 if progress.is_over else POLL_S)
    return progress


def _wait_for_interrupt(stage: Stage, console: Console) -> None:
    console.print(Text("\nThe server stays up. Press Ctrl-C to stop it and to remove its files.", style="bold"))
    try:
        while True:
            stage.check_alive()
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        console.print(Text("\nstopped; nothing is left running"))
