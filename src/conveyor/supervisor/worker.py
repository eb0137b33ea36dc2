"""`python -m conveyor.supervisor.worker`: a worker process. It loads the app, works, and ends with its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import click

from conveyor.loader import load_app
from conveyor.model.errors import ConveyorError
from conveyor.observe.log import make_log_sink
from conveyor.queue.board import Board
from conveyor.queue.worker import Stop, Worker
from conveyor.supervisor.process import Control, Report
from conveyor.supervisor.supervisor import CHILD_FAILED
from conveyor.working import choose_handlers, work

SWITCH_S = 0.001
"""The writer's thread gets the interpreter back this soon from a busy handler; CPython's usual 5 ms would slow commits."""


@click.command()
@click.option("--app", "target", required=True)
@click.option("--owner", type=int, required=True)
@click.option("--board", "board_fd", type=int, required=True)
@click.option("--control", "control_fd", type=int, required=True)
@click.option("--concurrency", type=int, default=100)
@click.option("--queue", "queues", multiple=True)
def main(target: str, owner: int, board_fd: int, control_fd: int, concurrency: int, queues: tuple[str, ...]) -> None:
    """Started by a supervisor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the supervisor, which tells us
    control = Control(control_fd)
    threading.Thread(target=_end_with_supervisor, args=(control,), name="conveyor-orphan-watch", daemon=True).start()
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(target, owner, Board.attach(board_fd), control, concurrency, queues))
    except ConveyorError as error:
        print(f"conveyor: {error}", file=sys.stderr)
        sys.exit(CHILD_FAILED)
    except Exception:  # noqa: BLE001 whatever the app's module raises, said once and in full
        traceback.print_exc()
        sys.exit(CHILD_FAILED)


async def _run(
    target: str, owner: int, board: Board, control: Control, concurrency: int, queues: tuple[str, ...]
) -> None:
    app = load_app(target)
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
        )


def _end_with_supervisor(control: Control) -> None:
    """Nobody renews our leases any more, so our messages are given to others within two seconds."""
    control.wait_until_orphaned()
    os._exit(CHILD_FAILED)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
