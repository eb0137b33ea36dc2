"""`python -m conveyor.supervisor.worker`: a worker process. It loads the app, works, and ends with its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Final

import click

from conveyor.loader import check_store, load_app
from conveyor.observe.log import make_log_sink
from conveyor.queue.board import Board
from conveyor.queue.worker import GRACE_S, Stop, Worker
from conveyor.store.chosen import choose_stores
from conveyor.supervisor.process import ORPHANED, Control, Report, end_badly, ignore_signal, loop_factory
from conveyor.working import choose_handlers, work

SWITCH_S: Final = 0.001
"""The writer's thread gets the interpreter back this soon from a busy handler; CPython's usual 5 ms would slow
commits."""


@click.command()
@click.option("--app", "target", required=True)
@click.option("--owner", type=int, required=True)
@click.option("--board", "board_fd", type=int, required=True)
@click.option("--control", "control_fd", type=int, required=True)
@click.option("--concurrency", type=int, default=100)
@click.option("--grace", "grace_s", type=float, default=GRACE_S)
@click.option("--queue", "queues", multiple=True)
def main(
    target: str, owner: int, board_fd: int, control_fd: int, concurrency: int, grace_s: float, queues: tuple[str, ...]
) -> None:
    """Started by a supervisor."""
    signal.signal(signal.SIGINT, ignore_signal)  # the terminal's Ctrl-C is for the supervisor, which tells us
    control = Control(control_fd)
    threading.Thread(target=_end_with_supervisor, args=(control,), name="conveyor-orphan-watch", daemon=True).start()
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(target, owner, Board.attach(board_fd), control, concurrency, grace_s, queues))
    except Exception as error:  # noqa: BLE001 whatever the app's module raises, said once and in full
        end_badly(error)
    control.say(Report(done=True))


async def _run(
    target: str, owner: int, board: Board, control: Control, concurrency: int, grace_s: float, queues: tuple[str, ...]
) -> None:
    app = load_app(target)
    check_store(app, choose_stores())
    app.emit = make_log_sink()

    def started(worker: Worker) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop, Stop.GRACEFULLY)
        control.say(Report(ready=True))

    async with app:
        await work(
            app.store,
            choose_handlers(app.handlers(), queues),
            app.scheduler(),
            owner=owner,
            board=board,
            target=target,
            concurrency=concurrency,
            emit=app.emit,
            on_start=started,
            on_stuck=lambda seqs: control.say(Report(stuck=sorted(seqs))),
            grace_s=grace_s,
            here=app.here,
        )


def _end_with_supervisor(control: Control) -> None:
    """Nobody renews our leases any more, so our messages are given to others within two seconds."""
    control.wait_until_orphaned()
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
