"""`conveyor work` and `conveyor serve`: the supervisor, and what it starts."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import signal
import sys

import click

from conveyor.cli.answers import chosen_stores
from conveyor.loader import show_url
from conveyor.model.errors import InvalidSettingError
from conveyor.observe.log import make_log_sink
from conveyor.store.chosen import environment_of
from conveyor.store.routing import Routing
from conveyor.store.urls import make_stores
from conveyor.supervisor.supervisor import Plan, Supervisor, worker_command

_TARGET_HELP = "TARGET names your app: MODULE:VARIABLE, or path/to/file.py:VARIABLE."


@click.command(epilog=_TARGET_HELP)
@click.argument("target")
@click.option("--processes", "-p", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--concurrency", "-c", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Handler calls in each."
)
@click.option("--queues", "-q", default="", help="Only these queues, with commas between.")
@click.option("--url", default=None, help="The store; else CONVEYOR_URL.")
def work(target: str, processes: int, concurrency: int, queues: str, url: str | None) -> None:
    """Run supervised workers and schedules of an app.

    Ctrl-C or SIGTERM stops in good order: running handlers get 10 s, the rest goes back to its queue. A second one
    stops at once. A worker that dies is replaced, and its messages are redelivered within 2 s.
    """
    command = worker_command(target, concurrency=concurrency, queues=_names(queues))
    plan = Plan(app=target, worker=command, processes=processes)
    sys.exit(_supervise(plan, url))


@click.command(epilog=_TARGET_HELP)
@click.argument("target")
@click.option("--host", envvar="CONVEYOR_HOST", default="127.0.0.1", show_default=True, help="Or CONVEYOR_HOST.")
@click.option(
    "--port",
    envvar="CONVEYOR_PORT",
    type=click.IntRange(0, 65_535),
    default=8787,
    show_default=True,
    help="Or CONVEYOR_PORT.",
)
@click.option("--processes", "-p", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--concurrency", "-c", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Handler calls in each."
)
@click.option("--url", default=None, help="The store; else CONVEYOR_URL.")
def serve(target: str, host: str, port: int, processes: int, concurrency: int, url: str | None) -> None:
    """Serve the app's HTTP, run its schedules and its supervised workers, under one command."""
    _check_host(host)
    web = [sys.executable, "-m", "conveyor.server.web", "--app", target, "--host", host, "--port", str(port)]
    command = worker_command(target, concurrency=concurrency, queues=[])
    sys.exit(_supervise(Plan(app=target, worker=command, processes=processes, web=web), url))


def _check_host(host: str) -> None:
    """Nothing asks for a token yet, so nobody from elsewhere may come in."""
    if host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise InvalidSettingError(
        "CONVEYOR_HOST",
        host,
        "is not a loopback address",
        hint="bind 127.0.0.1, and put a proxy that authenticates before it",
    )


def _names(queues: str) -> list[str]:
    return [name.strip() for name in queues.split(",") if name.strip()]


def _supervise(plan: Plan, url: str | None) -> int:
    routing = chosen_stores(url)
    os.environ.update(environment_of(routing))  # for the children
    return asyncio.run(_run(plan, routing))


async def _run(plan: Plan, routing: Routing) -> int:
    emit = make_log_sink()
    store = make_stores(routing, emit=emit)
    await store.open()
    try:
        chance = random.Random()
        supervisor = Supervisor(store, plan, emit=emit, chance=chance)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        where = ", ".join(show_url(url) for url in routing.urls.values())
        click.echo(f"conveyor: {plan.processes} worker process(es) for {plan.app} on {where}", err=True)
        return await supervisor.run()
    finally:
        await store.close()
