"""What the demo shows while a run goes on: a live picture on a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .progress import Event, Mark, Progress

LINES_SHOWN: Final = 12
SIGNS: Final = {Mark.DONE: "✓", Mark.LIMITED: "…", Mark.FAILED: "↻", Mark.DEAD: "✗", Mark.NOTE: "·"}
STYLES: Final = {
    Mark.DONE: "green",
    Mark.LIMITED: "yellow",
    Mark.FAILED: "yellow",
    Mark.DEAD: "bold red",
    Mark.NOTE: "dim",
}
WORDS: Final = {Mark.LIMITED: "rate limited: ", Mark.FAILED: "failed: ", Mark.DEAD: "dead letter: "}


class Screen(Protocol):
    """Shows a run for the length of a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress, events: Sequence[Event]) -> None:
        """Show how far it is, and what is new."""


def open_screen(console: Console) -> Screen:
    """A picture for people at a terminal, lines for files and pipes."""
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


def line_of(event: Event) -> Text:
    """One event as a line; the sign says what the colour says."""
    style = STYLES.get(event.mark, "")
    return Text.assemble((f"  {SIGNS.get(event.mark, ' ')} ", style), (WORDS.get(event.mark, ""), style), event.text)


def counts_of(progress: Progress) -> str:
    """The run in one line."""
    outcomes = progress.outcomes
    return (
        f"{progress.ended}/{progress.total} movies  generated {outcomes.get('generated', 0)}  "
        f"cached {outcomes.get('cached', 0)}  dead {outcomes.get('failed', 0)}  "
        f"429s {progress.count(Mark.LIMITED)}  retries {retries(progress)}  "
        f"provider calls {sum(progress.calls.values())}  {progress.per_second:.1f}/s"
    )


def retries(progress: Progress) -> int:
    """Failures that another attempt mended: the last failure of a dead letter is not one of them."""
    return max(0, progress.count(Mark.FAILED) - progress.count(Mark.DEAD))


class PlainScreen:
    """One line per movie, no colours, no movement."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, progress: Progress, events: Sequence[Event]) -> None:
        """Print what is new."""
        for event in events:
            if event.mark is not Mark.START:
                self._console.print(line_of(event), soft_wrap=True)
        if progress.is_over:
            self._console.print(Text(counts_of(progress)), soft_wrap=True)


class LiveScreen:
    """A bar, the counts, and the last lines, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._lines: deque[Text] = deque(maxlen=LINES_SHOWN)
        self._live = Live(console=console, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, progress: Progress, events: Sequence[Event]) -> None:
        """Redraw; dead letters stay above the picture for good."""
        for event in events:
            if event.mark is Mark.DEAD:
                self._live.console.print(line_of(event))
            elif event.mark is not Mark.START:
                self._lines.append(line_of(event))
        self._live.update(self._picture(progress))

    def _picture(self, progress: Progress) -> Group:
        bar = Table.grid(padding=(0, 1))
        done = ProgressBar(total=max(1, progress.total), completed=progress.ended, width=40)
        bar.add_row(done, Text(f"{progress.seconds:4.1f} s"))
        return Group(bar, Text(counts_of(progress)), *([] if progress.is_over else self._lines))
