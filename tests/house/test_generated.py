"""Pages that are written from the code say what the code says."""

from __future__ import annotations

import pytest

from conveyor.model.states import State, Step
from conveyor.model.verdict import DeadReason
from house.pages import DEAD_REASONS, DOCS, PAGES, STATES, STEP_NOTES, cli_verbs


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_every_state_and_step_is_explained() -> None:
    assert STATES.keys() == set(State)
    assert STEP_NOTES.keys() == set(Step)
    assert DEAD_REASONS.keys() == set(DeadReason)


def test_every_verb_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert not [verb for verb in cli_verbs() if f"conveyor {verb}" not in text]
