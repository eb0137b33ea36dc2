"""The circuit breaker, on a clock that the test moves; in one process, and in a file that many share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor_apps.concierge.clock import now_ms
from conveyor_apps.concierge.providers.circuit import Book, Circuit, MemoryBook, Pass, TableBook, Terms
from conveyor_apps.tables import Database, read_statements

pytestmark = pytest.mark.anyio
TERMS = Terms(failures=3, open_s=30, open_s_max=100)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "table"])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Book]:
    if request.param == "memory":
        yield MemoryBook()
        return
    statements = read_statements("conveyor_apps.concierge.providers", "sendings.sql")
    database = Database(tmp_path / "sendings.db", statements, now_ms)
    await database.open()
    yield TableBook(database)
    await database.close()


@pytest.fixture
def circuit(clock: Clock, book: Book) -> Circuit:
    return Circuit("smtp", book, clock, TERMS)


async def enter(circuit: Circuit) -> Pass:
    leave = await circuit.enter()
    assert isinstance(leave, Pass)
    return leave


async def fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        await circuit.failed(await enter(circuit))


async def test_failures_in_a_row_open_it_and_a_success_between_does_not(circuit: Circuit) -> None:
    await fail(circuit, 2)
    await circuit.worked(await enter(circuit))
    await fail(circuit, 2)
    assert await circuit.look() == ("closed", 0)
    await fail(circuit, 1)
    assert (await circuit.look(), await circuit.enter()) == (("open", 30), 30)


async def test_one_goes_ahead_when_the_time_is_over_and_the_others_wait_for_it(
    circuit: Circuit, book: Book, clock: Clock
) -> None:
    other = Circuit("smtp", book, clock, TERMS)  # of another process
    await fail(circuit, 3)
    clock.s += 29.9
    assert await other.enter() == pytest.approx(0.1)
    clock.s += 0.2
    probe = await enter(circuit)
    assert (await other.look(), await other.enter(), await circuit.enter()) == (("half_open", 1.0), 1.0, 1.0)
    await circuit.worked(probe)
    assert await other.look() == ("closed", 0)
    for _ in range(10):
        await enter(other)


async def test_each_opening_after_another_lasts_twice_as_long_up_to_its_most(circuit: Circuit, clock: Clock) -> None:
    await fail(circuit, 3)
    waits = [(await circuit.look())[1]]
    for _ in range(3):
        clock.s += waits[-1]
        await fail(circuit, 1)
        waits.append((await circuit.look())[1])
    assert waits == [30, 60, 100, 100]
    clock.s += 100
    await circuit.worked(await enter(circuit))
    await fail(circuit, 3)
    assert await circuit.look() == ("open", 30)


async def test_a_call_that_began_before_it_opened_says_nothing_any_more(circuit: Circuit, clock: Clock) -> None:
    slow_success, slow_failure = await enter(circuit), await enter(circuit)
    await fail(circuit, 3)
    await circuit.worked(slow_success)
    assert await circuit.enter() == 30
    clock.s += 30
    await circuit.failed(slow_failure)
    assert await circuit.look() == ("half_open", 0)
    await circuit.worked(await enter(circuit))
    await circuit.failed(slow_failure)
    await fail(circuit, 2)
    assert await circuit.look() == ("closed", 0)


async def test_a_probe_that_we_gave_up_or_that_died_lets_the_next_one_go_ahead(circuit: Circuit, clock: Clock) -> None:
    await fail(circuit, 3)
    clock.s += 30
    await circuit.let_go(await enter(circuit))
    await enter(circuit)
    assert await circuit.enter() == 1.0
    clock.s += TERMS.probe_s
    await enter(circuit)


async def test_rest_is_as_long_as_was_asked_for_and_no_failure(circuit: Circuit, clock: Clock) -> None:
    await circuit.rest(await enter(circuit), 7)
    assert await circuit.look() == ("open", 7)
    clock.s += 7
    await fail(circuit, 1)
    assert await circuit.look() == ("open", 30)  # the first opening, not the second


async def test_each_provider_has_a_page_of_its_own(circuit: Circuit, book: Book, clock: Clock) -> None:
    await fail(circuit, 3)
    assert await Circuit("resend", book, clock, TERMS).look() == ("closed", 0)
