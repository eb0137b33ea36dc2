"""What other frameworks' tasks have in common."""

from __future__ import annotations

import pytest

from conveyor import Snooze
from conveyor.integrations.foreign import Call, check_due, job_name_of, read_error, split_delay
from conveyor.model.settings import check_name

DAY_MS = 86_400_000


class LostError(Exception):
    """Wants more than words."""

    def __init__(self, order: int, *, why: str) -> None:
        super().__init__(f"{order}: {why}")


def test_a_short_path_is_its_own_name_and_a_long_one_keeps_its_end() -> None:
    assert job_name_of("shop.tasks.send_mail") == "shop.tasks.send_mail"
    long = "project.applications.of_a_company.with_deep_folders.tasks.send_mail_to_everybody"
    name = job_name_of(long)
    check_name("job", name)
    assert name.endswith("tasks.send_mail_to_everybody")
    assert name != job_name_of(f"x{long}")
    check_name("job", job_name_of("_private.tasks._send"))
    check_name("job", job_name_of("täglich"))


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (None, (None, None)),
        (999, (None, None)),
        (1_500, (0.5, None)),
        (1_000 + DAY_MS, (86_400.0, None)),
        (1_001 + DAY_MS, (86_400.0, 1_001 + DAY_MS)),
    ],
)
def test_a_moment_far_ahead_is_reached_in_steps(due: int | None, expected: tuple[float | None, int | None]) -> None:
    assert split_delay(due, 1_000) == expected


def test_a_call_before_its_moment_is_put_off_for_the_rest() -> None:
    check_due(Call([], {}, 5_000), 5_000)
    with pytest.raises(Snooze) as caught:
        check_due(Call([], {}, 5_000), 1_000)
    assert caught.value.after_ms == 4_000


def test_an_error_is_made_of_its_line() -> None:
    lost = read_error("LostError: 7: gone", globals())
    assert (type(lost), str(lost)) == (LostError, "7: gone")
    assert (type(read_error("ValueError", {})), str(read_error("ValueError", {}))) == (ValueError, "")
    strange = read_error("StrangeError: who knows", {})
    assert (type(strange).__name__, str(strange)) == ("StrangeError", "who knows")
    assert str(read_error("it ran for too long", {})) == "it ran for too long"
