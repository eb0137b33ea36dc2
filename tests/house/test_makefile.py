"""The Makefile lists itself, and CI runs what the README says."""

from __future__ import annotations

import re

from house.source import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_verb_says_what_it_does() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    told = set(re.findall(r"^([a-z]+):.*?##", MAKEFILE, re.MULTILINE))
    assert set(phony[1].split()) == told


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("exec make test")
    assert "\n$ make test " in (ROOT / "README.md").read_text(encoding="utf-8")
