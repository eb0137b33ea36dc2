"""The roasts table: the single truth about which movie has a roast; one active roast per movie."""

from dataclasses import dataclass
from typing import Final

from conveyor_apps.tables import Database, Transaction

from .movie import Outcome, Roast
from .runs import end_movie

ROAST_TTL_MS: Final = 30 * 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The roast that stands, which may be another worker's, and whether the run has ended with it."""

    roast: Roast
    run_ended: bool


class Roasts:
    """The table, as the rest of plotburn asks for it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, movie_id: int) -> Roast | None:
        """The movie's active roast, if it is younger than 30 days."""
        return await self._database.read(lambda tx: _find(tx, movie_id))

    async def keep(self, roast: Roast, *, run: str | None, outcome: Outcome) -> Kept:
        """Store a roast and what it means to its run, in one transaction: a crash leaves both or neither."""
        return await self._database.write(lambda tx: _keep(tx, roast, run, outcome))

    async def retire_all(self) -> int:
        """Let no roast be active, so that each is written anew; say how many were."""
        return await self._database.write(lambda tx: tx.change("retire_all_roasts"))


def _find(tx: Transaction, movie_id: int) -> Roast | None:
    rows = tx.rows("find_roast", movie_id=movie_id, oldest=tx.now_ms - ROAST_TTL_MS)
    return Roast(movie_id=rows[0][0], title=rows[0][1], roast=rows[0][2], created_at_ms=rows[0][3]) if rows else None


def _keep(tx: Transaction, roast: Roast, run: str | None, outcome: Outcome) -> Kept:
    tx.change("retire_old_roast", movie_id=roast.movie_id, oldest=tx.now_ms - ROAST_TTL_MS)
    values: dict[str, str | int | None] = {
        "title": roast.title,
        "content": roast.roast,
        "created_at": roast.created_at_ms,
    }
    tx.change("add_roast", movie_id=roast.movie_id, **values)
    ended = end_movie(tx, run, roast.movie_id, outcome) if run is not None else False
    return Kept(roast=_find(tx, roast.movie_id) or roast, run_ended=ended)
