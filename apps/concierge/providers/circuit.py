"""A circuit breaker for each provider, shared by all processes: how it stands is written in a `Book`.

closed      everything passes; `failures` in a row open it
open        nothing passes until its time is over; each opening after another lasts twice as long
half-open   one goes ahead, of whichever process; it closes the circuit, or opens it again
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from conveyor_apps.tables import Database, Transaction

T = TypeVar("T")
PROBE_S: Final = 1.0
"""How long those wait who meet a half-open circuit."""


class Standing(StrEnum):
    """How a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When it opens, and for how long."""

    failures: int = 5
    open_s: float = 30.0
    open_s_max: float = 600.0
    probe_s: float = 60.0
    """Whoever goes ahead and has not come back by then has died: the next one goes."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call; how it ends counts only for the circuit as it then stood."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is written of one circuit. Moments are seconds of the clock that all who share the book read."""

    failures: int = 0
    openings: int = 0
    until_s: float | None = None
    probing_until_s: float = 0.0
    round: int = 0
    """Moves on whenever the circuit opens or closes: what began before it says nothing any more."""

    def standing(self, now_s: float) -> Standing:
        """How it stands at this moment."""
        if self.until_s is None:
            return Standing.CLOSED
        return Standing.OPEN if now_s < self.until_s else Standing.HALF_OPEN

    def wait_s(self, now_s: float) -> float:
        """How long until somebody may pass; 0: now."""
        match self.standing(now_s):
            case Standing.CLOSED:
                return 0
            case Standing.OPEN:
                return (self.until_s or 0) - now_s
            case Standing.HALF_OPEN:
                return PROBE_S if now_s < self.probing_until_s else 0

    def turned(self, until_s: float | None, *, openings: int) -> "Page":
        """Opened or closed: another round begins."""
        return Page(openings=openings, until_s=until_s, round=self.round + 1)


Step = Callable[[Page], tuple[Page, T]]


class Book(Protocol):
    """Where circuits are written."""

    async def change(self, name: str, step: Step[T]) -> T:
        """Take one step of this circuit, with nobody between its reading and its writing."""
        ...


class MemoryBook:
    """For one process: tests, trials."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}

    async def change(self, name: str, step: Step[T]) -> T:
        self._pages[name], found = step(self._pages.get(name, Page()))
        return found


class TableBook:
    """In the table beside the marks. A step that changes nothing, as nearly all do, writes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(self, name: str, step: Step[T]) -> T:
        def look(tx: Transaction) -> tuple[bool, T]:
            page = _read(tx, name)
            after, found = step(page)
            return after == page, found

        def work(tx: Transaction) -> T:
            page = _read(tx, name)
            after, found = step(page)
            if after != page:
                tx.change(
                    "set_circuit", provider=name, failures=after.failures, openings=after.openings,
                    until_s=after.until_s, probing_until_s=after.probing_until_s, round=after.round,
                )  # fmt: skip
            return found

        is_same, found = await self._database.read(look)
        return found if is_same else await self._database.write(work)


def _read(tx: Transaction, name: str) -> Page:
    rows = tx.rows("find_circuit", provider=name)
    if not rows:
        return Page()
    failures, openings, until_s, probing_until_s, round_ = rows[0]
    return Page(
        failures=failures, openings=openings, until_s=until_s, probing_until_s=probing_until_s, round=round_
    )  # fmt: skip


class Circuit:
    """One provider's, by this name in the book."""

    def __init__(self, name: str, book: Book, now_s: Callable[[], float], terms: Terms | None = None) -> None:
        self._name = name
        self._book = book
        self._now_s = now_s
        self._terms = terms or Terms()

    async def look(self) -> tuple[Standing, float]:
        """How it stands now, and how many seconds until somebody may pass."""
        now_s = self._now_s()
        return await self._book.change(self._name, lambda page: (page, (page.standing(now_s), page.wait_s(now_s))))

    async def enter(self) -> Pass | float:
        """Leave to call; while nobody may, for how many seconds. It must be given back by one of the next four."""
        now_s = self._now_s()

        def step(page: Page) -> tuple[Page, Pass | float]:
            if (wait_s := page.wait_s(now_s)) > 0:
                return page, wait_s
            probes = page.until_s is not None
            after = replace(page, probing_until_s=now_s + self._terms.probe_s) if probes else page
            return after, Pass(page.round)

        return await self._book.change(self._name, step)

    async def worked(self, leave: Pass) -> None:
        """The provider answered as one that is well, whatever it thought of the message."""
        await self._end(
            leave,
            lambda page: replace(page, failures=0) if page.until_s is None else page.turned(None, openings=0),
        )

    async def failed(self, leave: Pass) -> None:
        """The provider is in trouble."""
        now_s = self._now_s()

        def step(page: Page) -> Page:
            if page.until_s is None and page.failures + 1 < self._terms.failures:
                return replace(page, failures=page.failures + 1)
            longest_s = min(self._terms.open_s * 2 ** min(page.openings, 16), self._terms.open_s_max)
            return page.turned(now_s + longest_s, openings=page.openings + 1)

        await self._end(leave, step)

    async def rest(self, leave: Pass, after_s: float) -> None:
        """The provider asks to be left alone for so long; that is no failure."""
        until_s = self._now_s() + after_s
        await self._end(leave, lambda page: page.turned(until_s, openings=page.openings))

    async def let_go(self, leave: Pass) -> None:
        """The call was given up by us, and says nothing."""
        await self._end(leave, lambda page: replace(page, probing_until_s=0.0))

    async def _end(self, leave: Pass, step: Callable[[Page], Page]) -> None:
        await self._book.change(self._name, lambda page: (step(page) if page.round == leave.round else page, None))
