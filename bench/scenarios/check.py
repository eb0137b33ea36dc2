"""What every scenario checks of its messages: none was lost, and none was handled twice."""

from __future__ import annotations

from bench.peers.marks import Watch
from bench.program import MeasureError, Program


def check_books(program: Program, url: str, sent: int, watch: Watch | None = None) -> None:
    """After the worker has ended: what was sent was handled, once, or is still there. `MeasureError`."""
    handled = 0
    if watch is not None:
        handled = watch.count_seen()
        if watch.calls() != handled:
            raise MeasureError(f"{program.name} handled {watch.calls() - handled:,} messages more than once")
    left = program.call("left", url)["left"]
    if sent != handled + left:
        raise MeasureError(f"{program.name} sent {sent:,}, handled {handled:,} and has {left:,} left")
