"""`conveyor jobs`: how jobs stand, what came of them, and a hand on them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from conveyor.audit.act import looking
from conveyor.audit.trail import operator
from conveyor.cli.answers import ask, print_json, print_rows, say, show_text, store_options
from conveyor.jobs.explain import explain as find_reason
from conveyor.jobs.following import JobEnd, JobEvent, JobLog, JobOutput, JobProgress, follow, read_all
from conveyor.jobs.job import JobInfo, find_job, job_info, read_job_id, retry_job, show_job
from conveyor.jobs.replay import replay
from conveyor.jobs.stepping import send_event
from conveyor.model.job import JobState
from conveyor.model.job_errors import JobNotFoundError
from conveyor.model.rate import read_rate
from conveyor.store.jobs import JobsAsked
from conveyor.store.protocol import Store

_COLUMNS = ("id", "name", "state", "attempts", "enqueued_at", "next_at", "error")
_ERROR_COLUMNS = ("fingerprint", "name", "jobs", "last_at", "error")
_STATES = tuple(each.value for each in JobState)


@click.group()
def jobs() -> None:
    """List jobs and their errors; show, explain, cancel them, and try them again.

    \b
    Example:
      conveyor jobs list --state failed
      conveyor jobs explain 019bc3a0e1f20000000101930cd870a0
    """


@jobs.command("list")
@click.option("--name", default=None, help="Only jobs of this name.")
@click.option("--queue", default=None, help="Only jobs of this queue.")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only these; may be given again.")
@click.option("--error", "fingerprint", default=None, help="Only jobs whose last error is of this kind.")
@click.option("--errors", "by_error", is_flag=True, help="Group them by kinds of errors instead.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@store_options
def list_jobs(
    *, name: str | None, queue: str | None, states: tuple[str, ...], fingerprint: str | None, by_error: bool,
    limit: int, url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Jobs, newest first."""
    if by_error:
        groups = ask(url, lambda store: store.jobs.errors(name=name, limit=limit))
        rows = [msgspec.to_builtins(each) | {"last_at": _moment(each.last_at)} for each in groups]
        print_rows(rows, columns=_ERROR_COLUMNS, as_json=as_json, empty="no errors")
        return
    asked = _asked(name, queue, states, fingerprint)

    async def question(store: Store) -> list[dict[str, Any]]:
        found: list[JobInfo] = []
        wanted = msgspec.structs.replace(asked, limit=limit)
        while len(found) < limit:
            page = await store.jobs.look(wanted)
            found += [show_job(each, store.clock.now_ms()) for each in page.jobs]
            if page.next_before is None:
                break
            wanted = msgspec.structs.replace(wanted, before=page.next_before, limit=limit - len(found))
        return [_row(each) for each in found]

    print_rows(ask(url, question), columns=_COLUMNS, as_json=as_json, empty="no such jobs")


@jobs.command()
@click.argument("id")
@store_options
def show(id: str, *, url: str | None, as_json: bool) -> None:
    """A job, and every step of its life."""
    info = ask(url, lambda store: job_info(store, read_job_id(id)))
    if as_json:
        print_json(msgspec.to_builtins(info))
        return
    row = {name: value for name, value in _row(info).items() if value is not None}
    width = max(map(len, row))
    for name, value in row.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {value}")
    click.echo()
    for step in info.timeline:
        parts = [_shown(step.at), step.state.value]
        parts += [f"attempt {step.attempt}"] if step.attempt else []
        parts += [f"{step.duration_s:.3f} s"] if step.duration_s is not None else []
        parts += [f"on {step.worker}"] if step.worker else []
        parts += [step.error] if step.error else []
        click.echo("  ".join(parts))
    _show_steps(info)


def _show_steps(info: JobInfo) -> None:
    if info.steps or info.events:
        click.echo()
    for each in info.steps:
        parts = [_shown(each.began_at), each.kind.value, each.name, each.state.value.replace("_", " ")]
        if each.ended_at is not None:
            parts.append(f"{(each.ended_at - each.began_at).total_seconds():.3f} s")
        elif each.until is not None:
            parts.append(f"until {_shown(each.until)}")
        click.echo("  ".join(parts))
    for event in info.events:
        click.echo(f"{_shown(event.sent_at)}  event  {event.name}  sent  {event.size_bytes:,} bytes")


@jobs.command()
@click.argument("id")
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on until the job is over.")
@click.option("--after", type=click.IntRange(0), default=0, help="Begin after this number.")
@store_options
def logs(id: str, *, follows: bool, after: int, url: str | None, as_json: bool) -> None:
    """What a job says of itself: its log, its progress and its output. With --json a line for each, with its number."""

    async def question(store: Store) -> None:
        job = read_job_id(id)
        await looking(store, "job.peek", id, operator(), lambda: find_job(store, job))
        async for event in follow(store, job, after=after) if follows else read_all(store, job, after=after):
            _tell(event, as_json=as_json)

    with contextlib.suppress(KeyboardInterrupt):
        ask(url, question)


def _tell(event: JobEvent, *, as_json: bool) -> None:
    if as_json:
        kind = type(event).__name__.removeprefix("Job").lower()
        click.echo(msgspec.json.encode({"event": kind} | msgspec.to_builtins(event)).decode())
        return
    match event:
        case JobLog():
            click.echo(show_text(f"{_shown(event.at)}  {event.level:7}  {event.text}"))
        case JobProgress():
            click.echo(show_text(f"{_shown(event.at)}  {event.fraction:7.1%}  {event.note}".rstrip()))
        case JobOutput():
            chunk = event.chunk if isinstance(event.chunk, str) else f"{len(event.chunk):,} bytes"
            click.echo(show_text(f"{_shown(event.at)}  output   {chunk}"))
        case JobEnd():
            click.echo(show_text(f"{event.state}  {event.error or ''}".rstrip()))


@jobs.command()
@click.argument("id")
@store_options
def explain(id: str, *, url: str | None, as_json: bool) -> None:
    """Why is it not running? Or what became of it."""
    found = ask(url, lambda store: find_reason(store, read_job_id(id)))
    say(found.text, {"id": id, "reason": found.word, "text": found.text}, as_json=as_json)


@jobs.command()
@click.argument("id")
@store_options
def cancel(id: str, *, url: str | None, as_json: bool) -> None:
    """End a job: one that waits at once, one that runs within seconds."""

    async def question(store: Store) -> JobState:
        found = await store.jobs.cancel(read_job_id(id))
        if found is None:
            raise JobNotFoundError(id)
        return found.state(store.clock.now_ms())

    state = ask(url, question)
    told = "is told to end" if state is JobState.RUNNING else f"is {state}"
    say(f"`{id}` {told}", {"id": id, "state": state.value}, as_json=as_json)


@jobs.command("send-event")
@click.argument("id")
@click.argument("name")
@click.argument("payload", default="null")
@store_options
def tell(id: str, name: str, payload: str, *, url: str | None, as_json: bool) -> None:
    """Tell a job what it waits for: the event NAME, with PAYLOAD as JSON. Of two the first counts."""
    try:
        value = msgspec.json.decode(payload)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"PAYLOAD is not JSON: {error}") from None
    ask(url, lambda store: send_event(store, read_job_id(id), name, value))
    say(f"`{name}` is sent to `{id}`", {"id": id, "name": name}, as_json=as_json)


@jobs.command()
@click.argument("id", required=False)
@click.option("--name", default=None, help="All jobs of this name that failed for good.")
@click.option("--queue", default=None, help="All of this queue.")
@click.option("--error", "fingerprint", default=None, help="All whose last error is of this kind.")
@click.option("--rate", default=None, help='No faster than this, such as "10/s" or "300/m".')
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="At most so many.")
@store_options
def retry(
    id: str | None, *, name: str | None, queue: str | None, fingerprint: str | None, rate: str | None, limit: int,
    url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Try again what failed for good: one job by its ID, or all that fit.

    Its payload may be edited before: `conveyor dlq edit`.
    """
    if (id is None) == (name is None and queue is None and fingerprint is None):
        raise click.UsageError("give the ID of a job, or say which with --name, --queue or --error")
    pace = None if rate is None else read_rate(rate, name="rate")

    async def question(store: Store) -> list[str]:
        if id is not None:
            await retry_job(store, read_job_id(id))
            return [id]
        asked = _asked(name, queue, (), fingerprint)
        return [each.id.hex() async for each in replay(store, asked, most=limit, rate=pace)]

    ids = ask(url, question)
    say(f"{len(ids)} sent again", {"retried": ids}, as_json=as_json)


def _asked(name: str | None, queue: str | None, states: tuple[str, ...], fingerprint: str | None) -> JobsAsked:
    chosen = frozenset(JobState(each) for each in states)
    return JobsAsked(name=name, queue=queue, states=chosen, fingerprint=fingerprint)


def _row(info: JobInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "name": info.name,
        "queue": info.queue,
        "state": info.state.value,
        "attempts": info.attempts,
        "enqueued_at": _shown(info.enqueued_at),
        "next_at": None if info.next_at is None else _shown(info.next_at),
        "started_at": None if info.started_at is None else _shown(info.started_at),
        "ended_at": None if info.ended_at is None else _shown(info.ended_at),
        "worker": info.worker,
        "error": info.error,
        "fingerprint": info.fingerprint,
        "cancel_requested": info.cancel_requested,
    }


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _moment(ms: int) -> str:
    return _shown(datetime.fromtimestamp(ms / 1000, UTC))
