"""The circuit breaker, on a clock that the test moves."""

import pytest

from conveyor_apps.concierge.providers.circuit import Circuit, Pass, Standing, Terms


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock, Terms(failures=3, open_s=30, open_s_max=100))


def enter(circuit: Circuit) -> Pass:
    leave = circuit.enter()
    assert leave is not None
    return leave


def stands(circuit: Circuit) -> str:
    return circuit.standing.value


def fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        circuit.failed(enter(circuit))


def test_failures_in_a_row_open_it_and_a_success_between_does_not(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.worked(enter(circuit))
    fail(circuit, 2)
    assert stands(circuit) == "closed"
    fail(circuit, 1)
    assert (circuit.standing, circuit.wait_s, circuit.enter()) == (Standing.OPEN, 30, None)


def test_one_goes_ahead_when_the_time_is_over_and_the_others_wait_for_it(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.s += 29.9
    assert circuit.enter() is None
    clock.s += 0.2
    probe = enter(circuit)
    assert (circuit.standing, circuit.enter(), circuit.wait_s) == (Standing.HALF_OPEN, None, 1.0)
    circuit.worked(probe)
    assert stands(circuit) == "closed"
    assert all(circuit.enter() for _ in range(10))


def test_each_opening_after_another_lasts_twice_as_long_up_to_its_most(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    waits = [circuit.wait_s]
    for _ in range(3):
        clock.s += waits[-1]
        circuit.failed(enter(circuit))
        waits.append(circuit.wait_s)
    assert waits == [30, 60, 100, 100]
    clock.s += 100
    circuit.worked(enter(circuit))
    fail(circuit, 3)
    assert circuit.wait_s == 30


def test_a_call_that_began_before_it_opened_says_nothing_any_more(circuit: Circuit, clock: Clock) -> None:
    slow_success, slow_failure = enter(circuit), enter(circuit)
    fail(circuit, 3)
    circuit.worked(slow_success)
    assert circuit.enter() is None
    clock.s += 30
    circuit.failed(slow_failure)
    assert stands(circuit) == "half_open"
    circuit.worked(enter(circuit))
    circuit.failed(slow_failure)
    fail(circuit, 2)
    assert stands(circuit) == "closed"


def test_a_probe_that_we_gave_up_lets_the_next_one_go_ahead(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.s += 30
    circuit.let_go(enter(circuit))
    assert circuit.enter() is not None


def test_rest_is_as_long_as_was_asked_for_and_no_failure(circuit: Circuit, clock: Clock) -> None:
    circuit.rest(enter(circuit), 7)
    assert (circuit.standing, circuit.wait_s) == (Standing.OPEN, 7)
    clock.s += 7
    circuit.failed(enter(circuit))
    assert circuit.wait_s == 30  # the first opening, not the second
