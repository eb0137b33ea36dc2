"""Fail-over, circuits, and attempts whose end nobody knows: real providers, the sandbox's mishaps, a clock of our own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.model.rate import BUCKETS
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import PermanentError, SettingError, TemporaryError, UnknownError
from conveyor_apps.concierge.providers.circuit import Book, MemoryBook, TableBook
from conveyor_apps.concierge.providers.marks import MemoryMarks, TableMarks
from conveyor_apps.concierge.providers.opening import open_providers, plan_routes
from conveyor_apps.concierge.providers.parcel import Taken
from conveyor_apps.concierge.providers.route import Route
from conveyor_apps.concierge.providers.trouble import ProviderBusyError, ProviderDownError, RestingError
from conveyor_apps.concierge.words import Channel, Unknown
from conveyor_apps.tables import Database, read_statements

from .posting import PostOffice, email_to, no_limiter, open_post_office, text_to

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostOffice]:
    with open_post_office(tmp_path_factory.mktemp("post")) as office:
        yield office


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    statements = read_statements("conveyor_apps.concierge.providers", "sendings.sql")
    opened = Database(tmp_path / "sendings.db", statements, clock.now_ms)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def marks(database: Database) -> TableMarks:
    return TableMarks(database)


Plan = Callable[..., AbstractAsyncContextManager[Route]]


@pytest.fixture
def plan(office: PostOffice, marks: TableMarks) -> Plan:
    office.calm()

    @asynccontextmanager
    async def open_route(
        channel: Channel = Channel.EMAIL, *, now_s: Clock | None = None, book: Book | None = None, **changes: Any
    ) -> AsyncIterator[Route]:
        order = ("smtp", "resend") if channel is Channel.EMAIL else ("twilio",)
        settings = office.but(**{"order": order, **changes})
        route = plan_routes(settings, marks, book or MemoryBook(), no_limiter, now_s=now_s or Clock())[channel]
        try:
            yield route
        finally:
            await route.close()

    return open_route


async def standing(route: Route, number: int = 0) -> str:
    return (await route.stops[number].circuit.look())[0].value


async def test_the_next_provider_takes_what_the_first_one_cannot(office: PostOffice, plan: Plan) -> None:
    office.strike("smtp", {"refuse": 421})
    async with plan() as route:
        assert (await route.send(email_to("b@x.test"))).provider == "resend"
    assert (len(office.accepted("smtp")), len(office.accepted("resend"))) == (0, 1)


@pytest.mark.parametrize(("code", "error"), [(550, PermanentError), (452, TemporaryError)])
async def test_what_is_the_recipients_trouble_is_not_taken_to_the_next_provider(
    office: PostOffice, plan: Plan, code: int, error: type[Exception]
) -> None:
    office.strike("smtp", {"refuse": code})
    async with plan(circuit_failures=1) as route:
        for _ in range(2):
            with pytest.raises(error):
                await route.send(email_to("b@x.test"))
        assert [await standing(route, number) for number in range(2)] == ["closed", "closed"]
    assert office.accepted("resend") == []


async def test_a_circuit_that_is_open_is_passed_over_until_a_probe_comes_back(office: PostOffice, plan: Plan) -> None:
    now = Clock()
    office.strike("smtp", {"refuse": 421, "times": 2})
    async with plan(now_s=now, circuit_failures=2, circuit_open_s=30) as route:
        took = [(await route.send(email_to("b@x.test", f"m{n}.1"))).provider for n in range(4)]
        assert took == ["resend"] * 4
        assert await standing(route) == "open"
        now.s = 30
        assert (await route.send(email_to("b@x.test", "m5.1"))).provider == "smtp"
        assert await standing(route) == "closed"
    assert len(office.accepted("smtp")) == 1


async def test_what_one_process_learns_of_a_provider_the_others_know(
    office: PostOffice, plan: Plan, database: Database
) -> None:
    now, book = Clock(), TableBook(database)
    office.strike("smtp", {"refuse": 421, "times": 2})
    office.strike("twilio", {"refuse": 20429, "times": 1})
    settings: dict[str, Any] = {"now_s": now, "book": book, "circuit_failures": 2, "circuit_open_s": 30}
    async with plan(**settings) as one, plan(**settings) as other, plan(Channel.SMS, **settings) as texts:
        for number, route in enumerate((one, other, one, other)):
            assert (await route.send(email_to("b@x.test", f"m{number}.1"))).provider == "resend"
        assert [await standing(route) for route in (one, other)] == ["open", "open"]
        assert office.accepted("smtp") == []  # two were refused, and two did not try
        with pytest.raises(ProviderBusyError):
            await texts.send(text_to(key="t1.1"))
        async with plan(Channel.SMS, **settings) as others, plan(**settings) as later:
            with pytest.raises(RestingError):  # Twilio said so to the other one
                await others.send(text_to(key="t2.1"))
            now.s = 30
            assert (await later.send(email_to("b@x.test", "m9.1"))).provider == "smtp"
        assert [await standing(route) for route in (one, other)] == ["closed", "closed"]


async def test_a_rate_holds_over_all_processes(office: PostOffice, tmp_path: Path) -> None:
    office.calm()
    settings = replace(office.but(smtp_rate="1/m", twilio_rate="1/m"), data=tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        services = []
        for name in ("one", "other"):
            app = await stack.enter_async_context(Conveyor(name, url=f"sqlite:///{tmp_path}/queue.db"))
            services.append(await open_providers(settings, app.limiter))
            stack.push_async_callback(services[-1].close)
        took = [(await each.send_email(email_to("b@x.test", f"m{n}.1"))).provider for n, each in enumerate(services)]
        assert took == ["smtp", "resend"]  # its turn of this minute is taken, and the next one may
        await services[0].send_sms(text_to(key="m2.1"))
        with pytest.raises(RestingError) as resting:
            await services[1].send_sms(text_to(key="m3.1"))
        assert 5 <= (resting.value.after_s or 0) <= 60 + 60 / BUCKETS  # a window forgets in steps
        assert {each["circuit"] for each in await services[1].status()} == {"closed"}
        with pytest.raises(SettingError, match="`RESEND_RATE` is `often`"):
            await open_providers(office.but(resend_rate="often"), app.limiter)
    assert len(office.accepted("twilio")) == 1


async def test_whoever_has_to_wait_a_little_for_a_turn_stands_in_line(office: PostOffice, tmp_path: Path) -> None:
    office.calm()
    async with Conveyor("one", url=f"sqlite:///{tmp_path}/queue.db") as app:
        service = await open_providers(replace(office.but(twilio_rate="1/s"), data=tmp_path), app.limiter)
        try:
            for number in range(2):
                await service.send_sms(text_to(key=f"m{number}.1"))
        finally:
            await service.close()
    assert len(office.accepted("twilio")) == 2


async def test_where_nobody_may_be_asked_the_shortest_wait_is_told(office: PostOffice, plan: Plan) -> None:
    office.strike("twilio", {"refuse": 20429})
    async with plan(Channel.SMS) as route:
        with pytest.raises(ProviderBusyError) as busy:
            await route.send(text_to())
        with pytest.raises(RestingError) as resting:
            await route.send(text_to(key="m2.1"))
    assert (busy.value.after_s, resting.value.after_s) == (1.0, 1.0)
    office.strike("smtp", {"refuse": 421})
    office.strike("resend", {"refuse": 429, "name": "daily_quota_exceeded"})
    async with plan(circuit_failures=1) as route:
        with pytest.raises(ProviderBusyError) as quota:
            await route.send(email_to("b@x.test"))
        assert quota.value.after_s is None  # the mail server may be back long before the quota
        with pytest.raises(RestingError) as both:
            await route.send(email_to("b@x.test"))
    assert both.value.after_s == 30


async def test_an_unknown_end_goes_to_the_same_provider_again_and_to_no_other(office: PostOffice, plan: Plan) -> None:
    office.strike("smtp", {"drop": True, "times": 1}, {"refuse": 421, "times": 1})
    async with plan() as route:
        for error in (UnknownError, ProviderDownError):
            with pytest.raises(error):
                await route.send(email_to("b@x.test"))
        assert office.accepted("resend") == []
        taken = await route.send(email_to("b@x.test"))
    assert (taken.provider, office.duplicates()["smtp"]) == ("smtp", {taken.reference: 2})


async def test_with_fail_over_the_next_provider_is_tried_at_once(office: PostOffice, plan: Plan) -> None:
    office.strike("smtp", {"drop": True})
    async with plan(unknown=Unknown.FAIL_OVER) as route:
        assert (await route.send(email_to("b@x.test"))).provider == "resend"
    assert (len(office.accepted("smtp")), len(office.accepted("resend"))) == (1, 1)


@pytest.mark.parametrize("unknown", list(Unknown))
async def test_what_goes_at_most_once_is_never_tried_again_after_an_unknown_end(
    office: PostOffice, plan: Plan, unknown: Unknown
) -> None:
    office.strike("smtp", {"drop": True, "times": 1})
    for _ in range(3):  # as many processes
        async with plan(unknown=unknown) as route:
            with pytest.raises(UnknownError):
                await route.send(email_to("b@x.test", once=True))
    assert (len(office.accepted("smtp")), len(office.accepted("resend"))) == (1, 0)


async def test_what_goes_at_most_once_goes_on_after_a_certain_refusal(office: PostOffice, plan: Plan) -> None:
    office.strike("smtp", {"refuse": 421})
    async with plan() as route:
        assert (await route.send(email_to("b@x.test", once=True))).provider == "resend"
        again = await route.send(email_to("b@x.test", once=True))
    assert again.provider == "resend"
    assert len(office.accepted("resend")) == 1


async def test_a_process_that_dies_while_it_sends_leaves_a_mark(office: PostOffice, plan: Plan) -> None:
    office.strike("smtp", {"delay_ms": 60_000, "times": 1})
    async with plan() as route:
        sending = asyncio.create_task(route.send(email_to("b@x.test", once=True)))
        while not office.accepted("smtp"):
            await clock.pause(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert await standing(route) == "closed"
    async with plan() as route:
        with pytest.raises(UnknownError, match="earlier attempt"):
            await route.send(email_to("b@x.test", once=True))
    assert len(office.accepted("smtp")) == 1


async def test_resend_answers_for_an_attempt_that_was_lost(office: PostOffice, plan: Plan) -> None:
    office.strike("resend", {"drop": True, "times": 1})
    async with plan(order=("resend",)) as route:
        with pytest.raises(UnknownError):
            await route.send(email_to("b@x.test"))
        taken = await route.send(email_to("b@x.test"))
    [row] = office.accepted("resend")
    assert row["id"] == taken.reference


@pytest.mark.parametrize("once", [False, True])
async def test_twilio_is_asked_before_it_is_told_again(office: PostOffice, plan: Plan, once: bool) -> None:
    office.strike("twilio", {"drop": True, "times": 1})
    async with plan(Channel.SMS) as route:
        taken = await route.send(text_to(once=once))
    [row] = office.accepted("twilio")
    assert (row["id"], row["is_answered"]) == (taken.reference, False)


async def test_a_text_with_the_same_words_is_not_taken_for_the_lost_one(office: PostOffice, plan: Plan) -> None:
    async with plan(Channel.SMS) as route:
        known = await route.send(text_to(key="m1.1"))
        office.strike("twilio", {"refuse": 20500, "times": 1}, {"drop": True, "times": 1})
        with pytest.raises(ProviderDownError):
            await route.send(text_to(key="m2.1"))
        lost = await route.send(text_to(key="m2.1"))
    assert lost != known
    assert {row["id"] for row in office.accepted("twilio")} == {known.reference, lost.reference}


async def test_an_answer_that_was_kept_is_given_again_without_a_call(office: PostOffice, plan: Plan) -> None:
    async with plan() as route:
        first = await route.send(email_to("b@x.test"))
    async with plan() as route:
        assert await route.send(email_to("b@x.test")) == first
    assert len(office.accepted("smtp")) == 1


async def test_two_who_begin_at_once_do_not_both_send(office: PostOffice, plan: Plan) -> None:
    async with plan() as one, plan() as other:
        ends = await asyncio.gather(
            *(route.send(email_to("b@x.test", once=True)) for route in (one, other) for _ in range(5)),
            return_exceptions=True,
        )
    assert len(office.accepted("smtp")) == 1
    assert {type(each) for each in ends} <= {Taken, UnknownError}
    assert any(isinstance(each, Taken) for each in ends)


@pytest.mark.parametrize("kind", ["table", "memory"])
async def test_marks_are_kept_found_ended_and_forgotten(marks: TableMarks, kind: str) -> None:
    kept = marks if kind == "table" else MemoryMarks()
    first = await kept.begin("k", "smtp", None)
    assert first is not None
    assert first.is_open
    assert await kept.begin("k", "smtp", None) is None
    second = await kept.begin("k", "resend", first)
    assert second is not None
    await kept.end(first, Taken(provider="smtp", reference="late"))  # whoever was overtaken says nothing any more
    assert await kept.find("k") == second
    taken = Taken(provider="resend", reference="r1")
    await kept.end(second, taken)
    found = await kept.find("k")
    assert found is not None
    assert (found.taken(), found.is_open, found.turn) == (taken, False, 2)
    assert await kept.is_known(taken)
    assert not await kept.is_known(Taken(provider="smtp", reference="r1"))
    assert await kept.forget(2**62) == 1
    assert await kept.find("k") is None


async def test_the_service_of_the_settings_says_how_it_stands_and_keeps_its_marks(office: PostOffice) -> None:
    office.calm()
    for _ in range(2):
        service = await open_providers(office.settings, no_limiter)
        try:
            taken = await service.send_email(email_to("b@x.test", "kept.1"))
            shown = [(each["name"], each["channel"], each["circuit"]) for each in await service.status()]
        finally:
            await service.close()
        assert taken.provider == "smtp"
        assert shown == [("smtp", "email", "closed"), ("resend", "email", "closed"), ("twilio", "sms", "closed")]
    assert len(office.accepted("smtp")) == 1
    service = await open_providers(office.but(order=("smtp",)), no_limiter)
    try:
        with pytest.raises(TemporaryError, match="no provider carries"):
            await service.send_sms(text_to())
    finally:
        await service.close()


async def test_a_text_that_never_arrived_is_not_taken_for_another_with_the_same_words(
    office: PostOffice, plan: Plan, marks: TableMarks
) -> None:
    async with plan(Channel.SMS) as route:
        known = await route.send(text_to(key="m1.1"))
        assert await marks.begin("m2.1", "twilio", None) is not None  # whose process died before it said a word
        sent = await route.send(text_to(key="m2.1"))
    assert sent != known
    assert {row["id"] for row in office.accepted("twilio")} == {known.reference, sent.reference}
