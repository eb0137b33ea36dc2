"""A drawing in SVG that reads on light and dark pages: shapes, words, and the colours of those who are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

LIGHT = ("#2563c9", "#b8570b", "#6b7280", "#7c3aad", "#0f766e")
DARK = ("#6ea8fe", "#f0a35e", "#9aa4b2", "#c79bf0", "#5ac8bb")
FONT = "font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
LETTER = 7.4  # a generous width for 13 px, since nobody can measure words here
LINE = 17


class Canvas:
    """Marks in the order in which they are laid on each other; y grows downwards."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self._title = width, height, title
        self._marks: list[str] = []

    def text(self, x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
        self._marks.append(f"<text {place}>{escape(words)}</text>")

    def bar(self, x: float, y: float, width: float, height: float, color: int) -> None:
        size = f'width="{max(width, 1.5):.1f}" height="{height:.1f}"'
        self._marks.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" class="f{color}"/>')

    def band(self, x: float, y: float, width: float, height: float) -> None:
        self._marks.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="band"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> None:
        self._marks.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{kind}"/>')

    def curve(self, points: Sequence[tuple[float, float]], color: int) -> None:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._marks.append(f'<path d="M{path}" class="s{color}"/>')

    def dot(self, x: float, y: float, color: int) -> None:
        self._marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="f{color}"/>')

    def words_at_ends(self, x: float, top: float, ends: Iterable[tuple[float, str, int]], heading: str = "") -> None:
        """Names beside the last points of curves, pushed down where they would lie on each other or on the heading."""
        lowest = top - LINE
        if heading:
            lowest = top
            self.text(x, lowest, heading, kind="dim")
        for y, words, color in sorted(ends):
            lowest = max(y + 4, lowest + LINE)
            self.text(x, lowest, words, kind=f"f{color}")

    def render(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
        return "\n".join([
            f'{head} height="{self.height}" role="img" style="{FONT}">',
            f"<title>{escape(self._title)}</title>",
            f"<style>{_style()}</style>",
            f'<rect width="{self.width}" height="{self.height}" rx="6" class="page"/>',
            *self._marks,
            "</svg>\n",
        ])  # fmt: skip


def _style() -> str:
    light = _theme("#ffffff", "#1f2328", "#59636e", "#d8dee4", "#f1e9d8", LIGHT)
    dark = _theme("#12161c", "#e6edf3", "#9aa5b1", "#333b45", "#33301f", DARK)
    shared = "path{fill:none}.grid{stroke-width:1}.range{stroke-width:1.5}.head{font-weight:600}"
    return f"{shared}{light}@media(prefers-color-scheme:dark){{{dark}}}"


def _theme(page: str, ink: str, dim: str, grid: str, band: str, colors: Sequence[str]) -> str:
    own = f".page{{fill:{page}}}text{{fill:{ink}}}.dim{{fill:{dim}}}.grid{{stroke:{grid}}}.band{{fill:{band}}}"
    curves = "".join(
        f".f{number}{{fill:{color}}}.s{number}{{stroke:{color};stroke-width:2}}" for number, color in enumerate(colors)
    )
    return f"{own}.range{{stroke:{ink}}}{curves}"
