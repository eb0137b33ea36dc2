"""The page on performance and its figures are what the bench's results say, and their words can be read."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from bench.canvas import LETTER
from bench.plot import DOCS, RESULTS, documents

ABOVE, BELOW = 11.0, 4.0
DOCUMENTS = documents(sorted(RESULTS.glob("*.json")))
FIGURES = [path for path in DOCUMENTS if path.suffix == ".svg"]
STARTS = {"start": 0.0, "middle": 0.5, "end": 1.0}

Box = tuple[float, float, float, float]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_it_says_what_the_results_say(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path], "run `make plots`"


def test_no_figure_is_left_over() -> None:
    assert set((DOCS / "figures").glob("*.svg")) == set(FIGURES)


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.name)
def test_words_neither_leave_the_figure_nor_lie_on_each_other(path: Path) -> None:
    drawing = ET.fromstring(DOCUMENTS[path])  # noqa: S314 our own drawing
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    boxes = {f"{text.text} at {text.attrib['y']}": _box(text) for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert boxes
    assert not [words for words, (left, top, right, bottom) in boxes.items() if left < 0 or right > width or top < 0 or bottom > height]
    assert not [(one, other) for (one, a), (other, b) in itertools.combinations(boxes.items(), 2) if _meet(a, b)]


def _box(text: ET.Element) -> Box:
    """Somewhat wider than a browser would make it."""
    length = len(text.text or "") * LETTER
    left = float(text.attrib["x"]) - STARTS[text.attrib["text-anchor"]] * length
    return left, float(text.attrib["y"]) - ABOVE, left + length, float(text.attrib["y"]) + BELOW


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
