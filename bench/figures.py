"""The figures that the docs show, each drawn from one or more scenarios of a run's JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from bench.age.look import PASSING
from bench.canvas import LETTER, Canvas

Scenarios = Mapping[str, Mapping[str, Any]]

WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 64, 200, 56, 44
PEERS = ("conveyor", "pgqueuer", "procrastinate", "huey", "litequeue")
COLORS = {"conveyor": 0, "pgqueuer": 1, "huey": 1, "procrastinate": 2, "litequeue": 2}
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
RATES = {
    "single": "enqueue, one caller, each awaited",
    "enqueue": "enqueue, 50 callers",
    "bulk": "enqueue, 1,000 at a time",
    "drain": "drain, one worker process",
    "pair": "drain, two worker processes",
}
BAR, GAP, HEAD = 18, 5, 30
POINTS_MOST = 200


def throughput(store: str, found: Scenarios) -> Canvas | None:
    """A panel for each scenario, a bar for each peer (its best setting), and the lowest and highest round on it."""
    panels = [(words, _best(found[name])) for name, words in RATES.items() if name in found]
    if not panels:
        return None
    height = TOP + sum(HEAD + len(best) * (BAR + GAP) for _, best in panels) + 16
    title = f"{STORES[store]}: messages a second (each panel has a scale of its own)"
    canvas = _canvas(title, height)
    y = float(TOP)
    for words, best in panels:
        canvas.text(16, y + 12, words, kind="dim")
        y += HEAD - 8
        most = max(max(rates) for _, rates in best)
        for peer, rates in best:
            _bar(canvas, y, peer, rates, most)
            y += BAR + GAP
        y += 8
    return canvas


def _bar(canvas: Canvas, y: float, peer: str, rates: Sequence[float], most: float) -> None:
    left, room = 124.0, WIDTH - 124 - 110
    middle, scale = median(rates), room / most
    canvas.text(left - 8, y + 13, peer, anchor="end")
    canvas.bar(left, y, middle * scale, BAR, _color(peer))
    low, high = left + min(rates) * scale, left + max(rates) * scale
    if high - low > 2:
        canvas.line(low, y + BAR / 2, high, y + BAR / 2, "range")
    canvas.text(max(left + middle * scale, high) + 8, y + 13, f"{middle:,.0f}")


def latency(store: str, found: Scenarios) -> Canvas | None:
    """From the send to the start of the handler: how long for which share of messages."""
    if "latency" not in found:
        return None
    curves = [(each["peer"], _middle(each, "percent")) for each in found["latency"]["contestants"] if each["series"]]
    return _latency(f"{STORES[store]}: from send to handler in another process, 50 a second, ms", curves)


def _latency(title: str, curves: Sequence[tuple[str, Sequence[float]]]) -> Canvas:
    canvas = _canvas(title, 360)
    low, high = _decades([value for _, curve in curves for value in curve])
    frame = _Frame(canvas, (0, 100), (math.log10(low), math.log10(high)))
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        frame.row(power, f"{10**power:g}")
    for percent in (0, 25, 50, 75, 99):
        frame.column(percent, "p99 " if percent == 99 else f"p{percent}" if percent else "fastest")
    ends = []
    for peer, curve in curves:
        points = [frame.point(step, math.log10(value)) for step, value in enumerate(curve[:100])]
        canvas.curve(points, _color(peer))
        for step in (50, 99):
            canvas.dot(*frame.point(step, math.log10(curve[step])), _color(peer))
        ends.append((points[-1][1], f"{peer} {curve[50]:.3g} / {curve[99]:.3g}", _color(peer)))
    canvas.words_at_ends(frame.right + 12, TOP - 10, ends, "p50 / p99, ms")
    return canvas


def backlog(store: str, found: Scenarios) -> Canvas | None:
    """Rate of a drain by how many messages wait."""
    if "backlog" not in found:
        return None
    peers: dict[str, list[tuple[float, float]]] = {}
    for each in found["backlog"]["contestants"]:
        if each["rounds"]:
            rate = median(taken["rate"] for taken in each["rounds"])
            peers.setdefault(each["peer"], []).append((each["rounds"][0]["waiting"], rate))
    canvas = _canvas(f"{STORES[store]}: drain by one process, messages a second, by how many wait", 320)
    places = sorted({waiting for points in peers.values() for waiting, _ in points})
    most = _round_up(max(rate for points in peers.values() for _, rate in points))
    frame = _Frame(canvas, (math.log10(places[0]) - 0.1, math.log10(places[-1]) + 0.05), (0, most))
    frame.rows(most)
    for waiting in places:
        frame.column(math.log10(waiting), f"{waiting:,.0f} waiting")
    ends = []
    for peer, pairs in peers.items():
        points = [frame.point(math.log10(waiting), rate) for waiting, rate in pairs]
        canvas.curve(points, _color(peer))
        for point in points:
            canvas.dot(*point, _color(peer))
        ends.append((points[-1][1], f"{peer} {pairs[-1][1]:,.0f}", _color(peer)))
    canvas.words_at_ends(frame.right + 12, TOP - 10, ends)
    return canvas


def held(store: str, found: Scenarios) -> Canvas | None:
    """Rate over time before, while and after somebody holds a transaction open, as a share of the rate before."""
    if "held" not in found:
        return None
    entered = [each for each in found["held"]["contestants"] if each["series"]]
    canvas = _canvas(f"{STORES[store]}: steady work while a transaction is held open, % of the rate before", 340)
    seconds = max(len(each["series"][0]["rate"]) for each in entered)
    start, end = entered[0]["rounds"][0]["start"], entered[0]["rounds"][0]["end"]
    shares = {each["peer"]: _shares(each) for each in entered}
    most = max(125.0, math.ceil(max(share for curve in shares.values() for _, share in curve) / 25) * 25)
    frame = _Frame(canvas, (0, seconds), (0, most))
    (left, top), (right, bottom) = frame.point(start, most), frame.point(end, 0)
    canvas.band(left, top, right - left, bottom - top)
    for share in range(0, int(most) + 1, 25 if most <= 150 else 50):
        frame.row(share, f"{share} %")
    columns = [(start, f"{start:.0f} s: begins"), (end, f"{end:.0f} s: ends")]
    if start > seconds / 6:  # else it would lie on the next words
        columns.insert(0, (0, "0 s"))
    for second, words in columns:
        frame.column(second, words)
    ends = []
    for peer, curve in shares.items():
        points = [frame.point(second, share) for second, share in curve]
        canvas.curve(points, _color(peer))
        before = median(taken["before"] for each in entered if each["peer"] == peer for taken in each["rounds"])
        ends.append((points[-1][1], f"{peer} {before:,.0f}/s", _color(peer)))
    canvas.words_at_ends(frame.right + 12, TOP - 10, ends, "100 % is")
    return canvas


def _shares(contestant: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Means of so many seconds that the curve stays readable."""
    rates, before = contestant["series"][0]["rate"], contestant["rounds"][0]["before"]
    step = max(1, -(-len(rates) // POINTS_MOST), 3 if len(rates) > 60 else 1)
    starts = range(0, len(rates) - step + 1, step)
    return [(first + step / 2, 100 * mean(rates[first : first + step]) / before) for first in starts]


def age(store: str, found: Scenarios) -> Canvas | None:
    """Above the rate, below the size of the tables, by how many messages one store has seen."""
    entered = [each for each in found["age"]["contestants"] if each["series"]] if "age" in found else []
    if not entered:
        return None
    series = entered[0]["series"][0]
    handled = [count / 1e6 for count in series["handled"]]
    canvas = _canvas(f"{STORES[store]}: a day of one store, by millions of messages handled", 560)
    rates, sizes = (TOP + 30.0, 270.0), (330.0, 560.0 - BOTTOM)
    _panel(canvas, rates, "messages a second", handled[1:], {"rate": series["rate"]})
    history = [sum(values) for values in zip(*(series[f"{name}, MiB"] for name in PASSING), strict=True)]
    _panel(canvas, sizes, "MiB with indexes", handled, {"hot tables": series["hot"], "history": history})
    return canvas


def _panel(
    canvas: Canvas,
    between: tuple[float, float],
    words: str,
    across: Sequence[float],
    curves: Mapping[str, Sequence[float]],
) -> None:
    top, bottom = between
    most = _round_up(max(max(values) for values in curves.values()))
    frame = _Frame(canvas, (0, across[-1]), (0, most), top=top, bottom=bottom)
    canvas.text(16, top - 14, words, kind="dim")
    frame.rows(most)
    for step in range(5):
        frame.column(across[-1] * step / 4, f"{across[-1] * step / 4:.3g} M" if step else "0")
    ends = []
    for color, (name, values) in enumerate(curves.items()):
        points = [frame.point(x, value) for x, value in zip(across, values, strict=True)]
        canvas.curve(points, color)
        ends.append((points[-1][1], f"{name} {values[-1]:,.0f}", color))
    canvas.words_at_ends(frame.right + 12, top - 10, ends)


class _Frame:
    """The field of a drawing with two axes."""

    def __init__(
        self,
        canvas: Canvas,
        across: tuple[float, float],
        up: tuple[float, float],
        *,
        top: float = TOP,
        bottom: float = 0,
    ) -> None:
        self._canvas, self._across, self._up = canvas, across, up
        self._top = top
        self.right, self.bottom = WIDTH - RIGHT, bottom or canvas.height - BOTTOM

    def point(self, x: float, y: float) -> tuple[float, float]:
        (west, east), (south, north) = self._across, self._up
        across = LEFT + (self.right - LEFT) * (x - west) / (east - west)
        return across, self.bottom - (self.bottom - self._top) * (y - south) / (north - south)

    def row(self, y: float, words: str) -> None:
        _, height = self.point(self._across[0], y)
        self._canvas.line(LEFT, height, self.right, height)
        self._canvas.text(LEFT - 8, height + 4, words, kind="dim", anchor="end")

    def rows(self, most: float) -> None:
        for step in range(5):
            self.row(most * step / 4, f"{most * step / 4:,.0f}")

    def column(self, x: float, words: str) -> None:
        """Its words stay inside the drawing."""
        across, _ = self.point(x, self._up[0])
        self._canvas.line(across, self.bottom, across, self.bottom + 5)
        half = len(words) * LETTER / 2
        self._canvas.text(max(across, LEFT - 40 + half), self.bottom + 22, words, kind="dim", anchor="middle")


def _canvas(title: str, height: int) -> Canvas:
    canvas = Canvas(WIDTH, height, title)
    canvas.text(16, 28, title, kind="head")
    return canvas


def _best(scenario: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Of each peer the rates of its best setting, conveyor's handler of batches left aside; conveyor first."""
    best: dict[str, list[float]] = {}
    for each in scenario["contestants"]:
        rates = [taken["rate"] for taken in each["rounds"]]
        is_own_extra = each["peer"] == "conveyor" and each["label"] != "conveyor"
        if rates and not is_own_extra and median(rates) > median(best.get(each["peer"], [0])):
            best[each["peer"]] = rates
    return sorted(best.items(), key=lambda pair: (PEERS.index(pair[0]) if pair[0] in PEERS else 9, pair[0]))


def _middle(contestant: Mapping[str, Any], name: str) -> list[float]:
    """The median of the rounds, point by point."""
    return [median(values) for values in zip(*(series[name] for series in contestant["series"]), strict=True)]


def _decades(values: Sequence[float]) -> tuple[float, float]:
    return 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))


def _round_up(value: float) -> float:
    """To the next number that can be quartered."""
    unit: float = 10 ** math.floor(math.log10(value)) / 5
    return math.ceil(value / unit / 4) * unit * 4


def _color(peer: str) -> int:
    return COLORS.get(peer, 3)
