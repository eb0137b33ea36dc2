"""Links between the repository's own pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.markdown import ROOT, pages

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)(#[^)\s]+)?\)")


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    wanted = [page.parent / target for target, _ in LINK.findall(page.read_text(encoding="utf-8"))]
    assert not [path for path in wanted if not path.exists()]
