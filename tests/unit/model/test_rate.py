"""Rates: what people may write, and a window that never forgets too early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.model.errors import InvalidDurationError, InvalidMessageError, InvalidSettingError
from conveyor.model.rate import BUCKETS, Rate, Window, read_rate
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import RateLimited

MINUTE = 60_000


@pytest.mark.parametrize(
    ("text", "rate", "shown"),
    [
        ("50/m", Rate(50, 60_000), "50/m"),
        ("50 / 10s", Rate(50, 10_000), "50/10s"),
        (" 1/h ", Rate(1, 3_600_000), "1/h"),
        ("9/d", Rate(9, 86_400_000), "9/d"),
        ("9/60s", Rate(9, 60_000), "9/m"),
        ("9/90m", Rate(9, 5_400_000), "9/90m"),
    ],
)
def test_a_rate_is_read_and_shown(text: str, rate: Rate, shown: str) -> None:
    assert read_rate(text, name="rate") == rate
    assert str(rate) == shown


@pytest.mark.parametrize(
    "text", ["", "50", "m/50", "0/m", "1/0s", "1.5/m", "-1/m", "1/ms", "1/32d", "9999999/m", "1/m/m", 50]
)
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidSettingError, match="50/m"):
        read_rate(text, name="rate")


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": Rate(0, MINUTE)},
        {"key_rate": Rate(1, 1)},
        {"key_weights": {"k": 2}},
        {"fair": True, "key_weights": {"k": 0}},
        {"fair": True, "key_weights": {"k": True}},
        {"fair": True, "key_weights": {"": 2}},
        {"fair": True, "key_weights": {str(n): 2 for n in range(1_001)}},
    ],
)
def test_limits_out_of_bounds_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidSettingError):
        ConsumerSettings(**settings).check()  # type: ignore[arg-type]  # tests name real settings


def test_a_cost_above_a_rate_is_refused() -> None:
    settings = ConsumerSettings(rate=Rate(9, MINUTE), key_rate=Rate(3, MINUTE))
    settings.check_cost(3)
    with pytest.raises(InvalidMessageError, match="key_rate"):
        settings.check_cost(4)


LEASES = st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 12)), max_size=60)


@given(leases=LEASES, count=st.integers(1, 10))
def test_within_any_period_no_more_than_the_rate(leases: list[tuple[int, int]], count: int) -> None:
    rate, now = Rate(count, MINUTE), 1_700_000_000_000
    window = Window(rate)
    taken: list[tuple[int, int]] = []
    for pause, cost in leases:
        now += pause
        if window.fits(now, cost):
            window.take(now, cost)
            taken.append((now, cost))
            within = [each for moment, each in taken if moment > now - MINUTE]
            assert sum(within) <= count or within == [cost], "what costs more goes alone"
    assert len(window._entries) <= BUCKETS + 2


@given(leases=LEASES, count=st.integers(1, 10), cost=st.integers(1, 12))
def test_it_opens_when_it_says_and_not_much_later_than_it_must(
    leases: list[tuple[int, int]], count: int, cost: int
) -> None:
    rate, now = Rate(count, MINUTE), 1_700_000_000_000
    window = Window(rate)
    for pause, each in leases:
        now += pause
        if window.fits(now, each):
            window.take(now, each)
    opens_at = window.opens_at(now, cost)
    assert window.fits(opens_at, cost)
    assert opens_at == now or not window.fits(opens_at - 1, cost)
    assert opens_at <= now + MINUTE + MINUTE // BUCKETS
    again = Window.decode(rate, window.encode())
    assert (again.used(now), again.ends_at) == (window.used(now), window.ends_at)


def test_the_text_of_a_retry_after_header_is_seconds() -> None:
    assert RateLimited("120").after_ms == 120_000
    assert RateLimited("2m").after_ms == 120_000
    with pytest.raises(InvalidDurationError):
        RateLimited("Wed, 21 Oct 2026 07:28:00 GMT")
    with pytest.raises(InvalidSettingError, match="key"):
        RateLimited(1, scope="tenant")  # type: ignore[arg-type]  # on purpose
