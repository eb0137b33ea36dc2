"""Groups and chains as an app sees them, in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from conveyor import (
    BodyTooLargeError,
    Conveyor,
    GroupNotFoundError,
    GroupResult,
    GroupState,
    GroupTimeoutError,
    InvalidError,
    JobCancelledError,
    JobContext,
    JobFailedError,
    JobFunction,
    JobState,
    JobTimeoutError,
    MemberState,
    Message,
    QueueNotFoundError,
    StoreError,
)

pytestmark = pytest.mark.anyio


@dataclass
class Page:
    text: str


class Press:
    """An app whose jobs hand on to each other."""

    def __init__(self) -> None:
        self.app = Conveyor("press", url="memory://")
        self.ended: list[GroupResult] = []
        self.shown: list[str] = []
        app = self.app

        @app.job(errors={ValueError: None})
        async def fetch(url: str) -> Page:
            if url == "bad":
                raise ValueError("no such page")
            return Page(f"<{url}>")

        @app.job()
        async def parse(page: Page) -> list[str]:
            return [page.text]

        @app.job()
        async def publish(words: list[str]) -> int:
            self.shown += words
            return len(words)

        @app.job()
        async def report(result: GroupResult) -> None:
            self.ended.append(result)

        @app.consumer("mail", max_retries=0)
        async def mail(message: Message[str]) -> None:
            if message.body == "bad":
                raise ValueError(message.body)

        self.fetch: JobFunction[str, Page] = fetch
        self.parse: JobFunction[Page, list[str]] = parse
        self.publish: JobFunction[list[str], int] = publish
        self.report: JobFunction[GroupResult, None] = report


@pytest.fixture
def press() -> Press:
    return Press()


async def test_a_group_is_counted_and_told_of(press: Press) -> None:
    async with press.app.testing() as kit:
        group = press.app.group("nightly", on_complete=press.report)
        nodes = group.add_many(press.fetch, ["a", "b", "bad"])
        group.send("mail", "x", headers={"from": "us"})
        group.send("mail", "bad")
        started = await group.start()
        assert (await started.info()).unfinished == 5
        await kit.drain()
        [result] = press.ended
        assert result == GroupResult(
            id=started.id, name="nightly", state=GroupState.FAILED, total=5, succeeded=3, failed=2, cancelled=0
        )
        info = await started.wait()
        assert (info.state, info.succeeded, info.failed, info.unfinished) == (GroupState.FAILED, 3, 2, 0)
        assert await nodes[0].job.result() == Page("<a>")
        members = [each async for each in started.members()]
        assert [each.state.value for each in members] == ["succeeded", "succeeded", "failed", "succeeded", "failed"]
        assert members[0].result == {"text": "<a>"}
        assert members[2].error == "ValueError: no such page"
        assert [each.place async for each in started.members(MemberState.FAILED)] == [2, 4]
        again = await press.app.groups.get(started.id)
        assert (await again.info()).name == "nightly"


async def test_a_queue_may_be_told_instead(press: Press) -> None:
    async with press.app.testing() as kit:
        press.app.declare_queue("ends")
        await kit.store.create_queue("ends", (await kit.store.get_queue("mail")).settings)
        group = press.app.group("g", on_complete="ends")
        group.add(press.fetch, "a")
        started = await group.start()
        await kit.drain()
        body = {"id": started.id, "name": "g", "state": "succeeded", "total": 1, "succeeded": 1, "failed": 0}
        kit.assert_enqueued("ends", body=body | {"cancelled": 0}, count=1)


async def test_a_chain_hands_on_results(press: Press) -> None:
    async with press.app.testing() as kit:
        last = await press.app.chain(press.fetch.bind("a"), press.parse, press.publish)
        assert await last.state() is JobState.SCHEDULED
        with pytest.raises(JobTimeoutError):
            await last.result(timeout=0)
        await kit.drain()
        assert await last.result() == 1
        assert press.shown == ["<a>"]


async def test_a_chain_that_breaks_is_cancelled_to_its_end(press: Press) -> None:
    async with press.app.testing() as kit:
        last = await press.app.chain(
            press.fetch.bind("bad"), press.parse, press.publish, name="pages", on_complete=press.report
        )
        await kit.drain()
        with pytest.raises(JobCancelledError):
            await last.result()
        assert await last.state() is JobState.CANCELLED
        [result] = press.ended
        assert (result.name, result.failed, result.cancelled) == ("pages", 1, 2)


async def test_a_result_that_cannot_be_handed_on_fails_the_one_after_it(press: Press) -> None:
    @press.app.job()
    async def write(words: int) -> str:
        return "x" * words

    @press.app.job()
    async def read(text: str) -> int:
        return len(text)

    async with press.app.testing() as kit:
        last = await press.app.chain(write.bind(200_000), read)
        await kit.drain()
        with pytest.raises(JobFailedError, match="too large"):
            await last.result()


async def test_who_comes_after_whom(press: Press) -> None:
    order: list[str] = []

    @press.app.job()
    async def note(name: str, context: JobContext) -> None:
        order.append(name)

    async with press.app.testing() as kit:
        group = press.app.group("build", on_failure="cancel")
        a, b = group.add(note, "a"), group.add(note, "b")
        c = group.add(note, "c", after=[a, b])
        group.add(note, "d", after=c)
        started = await group.start()
        await kit.drain()
        assert order == ["a", "b", "c", "d"]
        assert (await started.info()).state is GroupState.SUCCEEDED


async def test_a_cancelled_group(press: Press) -> None:
    async with press.app.testing() as kit:
        group = press.app.group("g", on_complete=press.report)
        first = group.add(press.fetch, "a")
        group.add(press.fetch, "b", after=first)
        started = await group.start()
        assert (await started.cancel()).state is GroupState.CANCELLED
        assert await first.job.state() is JobState.CANCELLED
        await kit.drain()
        assert [each.cancelled for each in press.ended] == [2]


async def test_the_deadline_ends_it(press: Press) -> None:
    async with press.app.testing() as kit:
        group = press.app.group("g", on_complete=press.report, deadline="2h")
        group.add(press.fetch.options(delay="3h"), "a")
        started = await group.start()
        await kit.travel("1h")
        assert (await started.info()).state is GroupState.RUNNING
        with pytest.raises(GroupTimeoutError):
            await started.wait(timeout=0)
        await kit.travel("1h")
        await kit.drain()
        assert [(each.state, each.unfinished) for each in press.ended] == [(GroupState.EXPIRED, 1)]
        assert (await started.wait()).state is GroupState.EXPIRED
        await kit.travel("2h")
        await kit.drain()
        assert len(press.ended) == 1


async def test_whoever_waits_ends_what_is_overdue(press: Press) -> None:
    """Also where nobody else looks after the store."""
    async with press.app.testing() as kit:
        group = press.app.group("g", deadline="1m")
        group.add(press.fetch.options(delay="3h"), "a")
        started = await group.start()
        waiting = asyncio.create_task(started.wait())
        for _ in range(100):
            await kit.clock.advance(1)
        assert (await waiting).state is GroupState.EXPIRED


async def test_many_members_start_in_several_steps(press: Press) -> None:
    async with press.app.testing() as kit:
        group = press.app.group("wide")
        for n in range(2_300):
            group.send("mail", str(n))
        started = await group.start()
        assert len(kit.enqueued("mail")) == 2_300
        assert (await started.info()).total == 2_300


async def test_what_a_group_cannot_have(press: Press) -> None:
    @press.app.job(unique=str)
    async def once(n: int) -> None: ...

    async with press.app.testing():
        group, other = press.app.group("g"), press.app.group("other")
        with pytest.raises(InvalidError, match="unique"):
            group.add(once, 1)
        with pytest.raises(InvalidError, match="unique"):
            group.add(press.fetch.options(unique="a"), "a")
        with pytest.raises(InvalidError, match="unique"):
            press.app.group("h", on_complete=press.report.options(unique="a"))
        with pytest.raises(InvalidError, match="no member of this group"):
            group.add(press.fetch, "a", after=other.add(press.fetch, "b"))
        with pytest.raises(InvalidError, match="a message, not a job"):
            _ = group.send("mail", "x").job
        with pytest.raises(InvalidError, match="on_failure"):
            press.app.group("g", on_failure="perhaps")  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(InvalidError, match="bind"):
            await press.app.chain(press.fetch, press.parse)  # type: ignore[call-overload]  # wrong on purpose
        await group.start()
        with pytest.raises(InvalidError, match="started"):
            await group.start()
        with pytest.raises(InvalidError, match="started"):
            group.add(press.fetch, "c")
        large = press.app.group("large")
        large.send("mail", "x" * 200_000)
        with pytest.raises(BodyTooLargeError):
            await large.start()
        lost = press.app.group("lost")
        lost.send("nowhere", "x")
        with pytest.raises(QueueNotFoundError):
            await lost.start()
        for id in ("0" * 32, "what", ""):
            with pytest.raises(GroupNotFoundError):
                await press.app.groups.get(id)


async def test_members_of_two_stores_are_refused() -> None:
    app = Conveyor("two", url="memory://", stores={"far": "memory://"}, routes={"b": "far"})
    app.declare_queue("a")
    app.declare_queue("b")
    async with app:
        group = app.group("g")
        group.send("a", 1)
        group.send("b", 1)
        with pytest.raises(StoreError, match="several stores"):
            await group.start()
