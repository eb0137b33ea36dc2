"""`conveyor work` and `conveyor serve`: the supervisor, and what it starts."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from typing import Any, Final

import click
import msgspec

from conveyor.cli.answers import chosen_stores
from conveyor.loader import show_url
from conveyor.observe.log import make_log_sink
from conveyor.queue.notices import Announcer
from conveyor.server.binding import Binding, check_binding
from conveyor.server.tokens import Tokens, read_environment
from conveyor.store.chosen import environment_of
from conveyor.store.routing import Routing
from conveyor.store.urls import make_stores
from conveyor.supervisor.supervisor import Plan, Supervisor, worker_command

_FILE: Final = click.Path(exists=True, dir_okay=False)
BARE: Final = "conveyor.cli.bare:app"
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
    plan = Plan(app=_app_of(target), worker=command, processes=processes)
    sys.exit(_supervise(plan, url))


@click.command(epilog=_TARGET_HELP)
@click.argument("target", default=BARE, metavar="[TARGET]")
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
@click.option("--certificate", type=_FILE, default=None, help="A PEM file: speak TLS.")
@click.option("--key", type=_FILE, default=None, help="Its private key.")
@click.option("--plain-http", envvar="CONVEYOR_PLAIN_HTTP", is_flag=True, help="No TLS though others can reach us.")
@click.option("--allow-host", "hosts", multiple=True, help="A name that Host headers may say besides our own.")
@click.option("--trust-proxy", "proxies", multiple=True, help="An address whose X-Forwarded-For is believed.")
@click.option("--rate", type=click.FloatRange(1), default=None, help="Requests a second of a token, and of an address.")
@click.option("--url", default=None, help="The store; else CONVEYOR_URL.")
def serve(
    target: str, *, processes: int, concurrency: int, url: str | None,
    hosts: tuple[str, ...], proxies: tuple[str, ...], **network: Any,
) -> None:  # fmt: skip
    """Serve the app's HTTP, run its schedules and its supervised workers, under one command. Without TARGET both APIs
    are served for the store alone.

    Both APIs ask for a token: the one in CONVEYOR_TOKEN, or those of `conveyor tokens`. Where there is none at all, the
    first is made and shown once.
    """
    binding = Binding(allowed_hosts=hosts, proxies=proxies, **network)
    given = msgspec.json.encode(binding).decode()
    web = [sys.executable, "-m", "conveyor.server.web", "--app", target, "--binding", given]
    command = worker_command(target, concurrency=concurrency, queues=[])
    sys.exit(_supervise(Plan(app=_app_of(target), worker=command, processes=processes, web=web), url, binding))


def _app_of(target: str) -> str:
    """What its workers are known by: where it is loaded from, in full. That of the store alone has no consumers."""
    if target == BARE:
        return "conveyor"
    return target if ":" in target else f"{target}:app"


def _names(queues: str) -> list[str]:
    return [name.strip() for name in queues.split(",") if name.strip()]


def _supervise(plan: Plan, url: str | None, binding: Binding | None = None) -> int:
    routing = chosen_stores(url)
    os.environ.update(environment_of(routing))  # for the children
    return asyncio.run(_run(plan, routing, binding))


async def _run(plan: Plan, routing: Routing, binding: Binding | None) -> int:
    emit = make_log_sink()
    store = make_stores(routing, emit=emit)
    await store.open()
    try:
        if binding is not None:  # before anything runs; the web process looks again
            has_token = read_environment()[0] is not None or await Tokens(store).is_any()
            check_binding(binding, has_token=has_token)
        chance = random.Random()
        announcer = Announcer(store, emit)
        supervisor = Supervisor(store, plan, emit=announcer.emit, chance=chance)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        where = ", ".join(show_url(url) for url in routing.urls.values())
        click.echo(f"conveyor: {plan.processes} worker process(es) for {plan.app} on {where}", err=True)
        try:
            return await supervisor.run()
        finally:
            await announcer.close()
    finally:
        await store.close()
