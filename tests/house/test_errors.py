"""Every error has a code of its own, and its place in the tree on page one of model/errors.py."""

from __future__ import annotations

import re
from collections import Counter

from conveyor.model import beside, errors, job_errors, refusals
from conveyor.model.errors import ConveyorError

DRAWN = re.compile(r"^(?P<bars>[ |`-]*)(?P<name>\w+Error)\b", re.MULTILINE)


def all_errors() -> list[type[ConveyorError]]:
    everything = (vars(errors) | vars(beside) | vars(refusals) | vars(job_errors)).values()
    found = [each for each in everything if isinstance(each, type) and issubclass(each, ConveyorError)]
    return sorted(found, key=lambda each: each.__name__)


def test_every_error_has_a_code_of_its_own() -> None:
    codes = Counter(each.__dict__.get("code") for each in all_errors())
    assert None not in codes, "each class states its own code"
    assert not {code for code, count in codes.items() if count > 1}


def test_codes_are_words() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", each.code) for each in all_errors())


def test_every_error_is_drawn_below_its_parent() -> None:
    drawn = _drawn_parents(errors.__doc__ or "")
    there = {each.__name__: each.__mro__[1].__name__ if each is not ConveyorError else None for each in all_errors()}
    assert drawn == there


def _drawn_parents(drawing: str) -> dict[str, str | None]:
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for match in DRAWN.finditer(drawing):
        depth, name = len(match["bars"]), match["name"]
        while above and above[-1][0] >= depth:
            above.pop()
        parents[name] = above[-1][1] if above else None
        above.append((depth, name))
    return parents
