"""`conveyor tail`: what happens on a server, as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpx2
import msgspec

from conveyor.cli.answers import json_option, show_text
from conveyor.model.clock import Clock, SystemClock
from conveyor.model.errors import ConveyorError, InvalidSettingError

DEFAULT: Final = "http://127.0.0.1:8787"
SILENCE_S: Final = 40.0
"""Two heartbeats and a half."""
RETRY_S_FIRST: Final = 0.5
RETRY_S_MAX: Final = 10.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as it came."""

    id: str | None
    event: str
    data: dict[str, Any]


class RefusedError(ConveyorError):
    """What a server said instead of events."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]  # the server's own


@click.command()
@click.option("--server", envvar="CONVEYOR_SERVER", default=DEFAULT, show_default=True, help="Where it is.")
@click.option("--queue", default=None, help="Only events of queues of this name, or pattern with * and ?.")
@click.option("--event", default=None, help="Only events whose names begin so, as in conveyor.queue.")
@click.option("--after", default=None, help="Begin after the event of this id, as far back as the server remembers.")
@json_option
def tail(server: str, *, queue: str | None, event: str | None, after: str | None, as_json: bool) -> None:
    """Show a server's live events: what changes in the queues, and what the server has to say. The token is taken from
    CONVEYOR_TOKEN. A connection that breaks is made again, and what was missed is shown. Ctrl-C ends it.

    \b
    Example:
      conveyor tail
      conveyor tail --server https://queues.example.com --queue 'orders*' --json
    """
    asked = {name: value for name, value in (("queue", queue), ("event", event)) if value is not None}
    show = _show_json if as_json else _show
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(check_server(server), os.environ.get("CONVEYOR_TOKEN"), asked, after, show, SystemClock()))


def check_server(server: str) -> str:
    """`InvalidSettingError` for what is no address, or would show the token to everybody on the way."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise InvalidSettingError("--server", server, "is no address of a server", hint=f"as in `{DEFAULT}`")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise InvalidSettingError("--server", server, "would send the token in the clear", hint="use https://")
    return server.rstrip("/")


async def follow(
    server: str, token: str | None, asked: dict[str, str], after: str | None, show: Callable[[Said], None], clock: Clock
) -> None:
    """Until cancelled. `RefusedError`; `InvalidSettingError` if nobody answers at the first try."""
    wait_s, has_answered = RETRY_S_FIRST, False
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=server, headers=headers, timeout=SILENCE_S, trust_env=False) as client:
        while True:
            try:
                async for said in _listen(client, asked, after):
                    wait_s, has_answered, after = RETRY_S_FIRST, True, said.id or after
                    show(said)
            except httpx2.TransportError as error:
                if not has_answered:
                    problem = f"does not answer: {error or type(error).__name__}"
                    raise InvalidSettingError("--server", server, problem, hint="`conveyor serve` starts one") from error
            await clock.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_S_MAX)


async def _listen(client: httpx2.AsyncClient, asked: dict[str, str], after: str | None) -> AsyncIterator[Said]:
    headers = {} if after is None else {"last-event-id": after}
    async with client.stream("GET", "/api/v1/events", params=asked, headers=headers) as answer:
        if answer.status_code != httpx2.codes.OK:
            raise _refusal(answer.status_code, await answer.aread())
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                data = msgspec.json.decode(fields.get("data", "{}"), type=dict[str, Any])
                yield Said(id=fields.get("id"), event=fields["event"], data=data)
                fields = {}


def _refusal(status: int, body: bytes) -> RefusedError:
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        said = {}
    code, detail = str(said.get("code") or "refused"), str(said.get("detail") or f"the server answered {status}")
    hint = "set CONVEYOR_TOKEN; `conveyor tokens create` makes one" if status in (401, 403) else said.get("hint") or ""
    return RefusedError(code, detail, str(hint))


def _show(said: Said) -> None:
    facts = {name: value for name, value in said.data.items() if name != "at" and value is not None}
    shown = "  ".join(f"{name}={_cell(value)}" for name, value in facts.items())
    moment = str(said.data.get("at", ""))[11:19]
    click.echo(show_text(f"{moment:8}  {said.event}  {shown}".rstrip()))


def _cell(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _show_json(said: Said) -> None:
    click.echo(msgspec.json.encode(said).decode())
