"""What type checkers see of jobs. Both run over this file in `make check`, and both complain of an `ignore` that hides
nothing: a wrong line that they no longer see fails the build."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_type

from conveyor import (
    Backoff,
    Conveyor,
    GroupInfo,
    GroupResult,
    Job,
    JobContext,
    JobErrors,
    JobFunction,
    JobInfo,
    JobState,
    StartedGroup,
)

app = Conveyor("typed", url="memory://")


@dataclass
class Mail:
    to: str


@dataclass
class Receipt:
    number: int


@app.job(queue="mails")
async def send_mail(mail: Mail, context: JobContext) -> Receipt:
    return Receipt(context.attempt)


@app.job(backoff=Backoff.exponential("1s"), errors={ValueError: None, OSError: "5s"})
async def send_plainly(mail: Mail) -> Receipt:
    return Receipt(len(mail.to))


@app.job(backoff=lambda attempt, error: f"{2**attempt}m", on_conflict="raise")
def count(number: int) -> str:
    return str(number)


@app.job(run_in="process")
def count_slowly(number: int, context: JobContext) -> None:
    assert number, context.id


async def fetch(url: str, *, tries: int = 1) -> Receipt:
    return Receipt(len(url) + tries)


def weigh(mail: Mail) -> int:
    return len(mail.to)


@app.job()
async def in_steps(mail: Mail, context: JobContext) -> None:
    assert_type(await context.step("fetch", fetch, "url", tries=2), Receipt)
    assert_type(await context.step("weigh", weigh, mail), int)
    assert_type(await context.step("told", fetch, "url", type=Mail), Mail)
    assert_type(await context.wait_for_event("paid", timeout="1d", type=Receipt), Receipt)
    await context.sleep("rest", "10m")
    await context.step("fetch again", fetch, 5)  # type: ignore[call-overload]  # must be refused


@app.job()
def in_blocking_steps(mail: Mail, context: JobContext) -> None:
    assert_type(context.blocking.step("weigh", weigh, mail), int)
    assert_type(context.blocking.step("told", weigh, mail, type=Mail), Mail)
    assert_type(context.blocking.wait_for_event("paid", type=Receipt), Receipt)


async def right() -> None:
    assert_type(send_mail, JobFunction[Mail, Receipt])
    assert_type(send_plainly, JobFunction[Mail, Receipt])
    assert_type(count, JobFunction[int, str])
    assert_type(count_slowly, JobFunction[int, None])
    job = await send_mail.enqueue(Mail("ann"))
    assert_type(job, Job[Receipt])
    assert_type(await job.result(timeout="5s"), Receipt)
    assert_type(await job.state(), JobState)
    assert_type((await job.info()).timeline[0].state, JobState)
    later = await send_mail.options(delay="1h", key="ann", on_conflict="replace", unique="ann").enqueue(Mail("ann"))
    assert_type(later, Job[Receipt])
    assert_type(await count.enqueue_many([1, 2]), list[Job[str]])
    urgent = send_mail.options(priority="high", deadline=timedelta(hours=1))
    assert_type(await urgent.enqueue(Mail("ann")), Job[Receipt])
    assert_type(await send_mail.debounce("5s", unique="ann").enqueue(Mail("ann")), Job[Receipt])
    assert_type(await count.throttle("10m").enqueue(7), Job[str])
    await job.retry(Mail("bob"))
    assert_type(await app.jobs.list(state=["failed", JobState.DEAD]), Sequence[JobInfo])
    assert_type(await app.jobs.errors(name="count"), Sequence[JobErrors])
    assert_type(await app.jobs.retry(rate="10/s"), int)
    jobs: Sequence[Job[object]] = [job]  # a job of a narrower result is one of a wider
    assert jobs


async def right_in_tests() -> None:
    async with app.testing(mode="inline") as kit:
        assert_type(await kit.result(await send_mail.enqueue(Mail("ann"))), Receipt)
        kit.assert_enqueued(send_mail, payload=Mail("ann"), count=1, delay="1h")
    with app.testing() as plain:
        assert_type(plain.result(plain.run(count.enqueue(1))), str)
    assert_type(app.jobs.also_in("other", send_mail), JobFunction[Mail, Receipt])


@app.job()
async def number_of(receipt: Receipt) -> int:
    return receipt.number


@app.job()
async def report(result: GroupResult) -> None:
    assert result.total


async def right_groups() -> None:
    group = app.group("nightly", on_complete=report, deadline="2h", on_failure="cancel")
    node = group.add(send_mail, Mail("ann"))
    assert_type(group.add(number_of, Receipt(1), after=node).job, Job[int])
    group.send("emails", {"any": "body"}, after=[node])
    started = await group.start()
    assert_type(started, StartedGroup)
    assert_type(await started.wait("10m"), GroupInfo)
    assert_type(await app.chain(send_mail.bind(Mail("ann")), number_of), Job[int])
    assert_type(await app.chain(send_mail.bind(Mail("ann")), number_of, count.options(priority=8)), Job[str])


async def wrong_groups() -> None:
    group = app.group("nightly", on_complete=report)
    group.add(send_mail, "ann")  # type: ignore[misc]  # must be refused
    group.add(send_mail, Mail("ann"), after="b")  # type: ignore[arg-type]  # must be refused
    app.group("nightly", on_complete=count)  # type: ignore[arg-type]  # must be refused
    app.group("nightly", on_failure="perhaps")  # type: ignore[arg-type]  # must be refused


async def wrong() -> None:
    app.testing(mode="eager")  # type: ignore[arg-type]  # must be refused
    async with app.testing() as kit:
        kit.assert_enqueued(7)  # type: ignore[arg-type]  # must be refused
        number: int = await kit.result(await send_mail.enqueue(Mail("ann")))  # type: ignore[arg-type]  # must be refused
        assert number
    await send_mail.enqueue("ann")  # type: ignore[arg-type]  # must be refused
    await count.enqueue_many(["one"])  # type: ignore[list-item]  # must be refused
    send_mail.options(dealy="1h")  # type: ignore[call-arg]  # must be refused
    send_mail.options(delay=object())  # type: ignore[arg-type]  # must be refused
    send_mail.options(on_conflict="perhaps")  # type: ignore[arg-type]  # must be refused
    send_mail.options(priority="urgent")  # type: ignore[arg-type]  # must be refused
    await count.throttle("10m").enqueue("seven")  # type: ignore[arg-type]  # must be refused
    await send_mail.options(delay="1h").enqueue(7)  # type: ignore[arg-type]  # must be refused
    app.job(max_retries="many")  # type: ignore[arg-type]  # must be refused
    app.job(retries=3)  # type: ignore[call-arg]  # must be refused
    job = await send_mail.enqueue(Mail("ann"))
    text: str = await job.result()  # type: ignore[assignment]  # must be refused
    assert text
