"""A concierge without its front: tables, bucket, trail, and the queue of exports; for tests of exports and cleanup."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import apsw

from conveyor import Conveyor
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import Trail, Who
from conveyor_apps.concierge.cleanup import Holds, dead_letters_of, declare_schedules
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.exports import Exports, declare_exports
from conveyor_apps.concierge.jobs import ExportJob
from conveyor_apps.concierge.settings import BUCKET, DEAD, Settings
from conveyor_apps.concierge.statements import all_statements
from conveyor_apps.concierge.words import Format
from conveyor_apps.tables import Database

ANN: Final = Who("ann", "admin", "127.0.0.1")
DAY_MS: Final = 86_400_000
Facts: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]

FILL: Final = """
INSERT INTO concierge_messages (id, channel, recipient, subject, content, priority, once, state, version, attempt,
  provider, reference, created_by, created_at, updated_at, sent_at, ended_at)
WITH RECURSIVE line (number) AS (SELECT :first UNION ALL SELECT number + 1 FROM line WHERE number < :last)
SELECT printf('msg-%012d', number), iif(number % 3, 'email', 'sms'), printf('person%d@example.com', number % 90000),
  printf('Appointment %d', number),
  printf('Dear person %d, your appointment is on the %dth at 10:%02d. Please bring "all" of your papers.',
    number % 90000, number % 28 + 1, number % 60),
  'normal', 0, iif(number % 20, 'delivered', 'failed'), 1, 1, 'smtp', printf('<%d@mail.example.com>', number),
  iif(number % 4, 'ann', 'bea'), :since + number * 7, :since + number * 7 + 900, :since + number * 7 + 800,
  :since + number * 7 + 900
FROM line
"""


def fill(path: Path, rows: int, *, since: int, first: int = 1) -> None:
    """So many messages, as fast as SQLite writes them: one every 7 ms from that moment on."""
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(15_000)
        connection.execute("PRAGMA synchronous=OFF").fetchall()
        connection.execute(FILL, {"first": first, "last": first + rows - 1, "since": since}).fetchall()
    finally:
        connection.close()


class Quiet:
    """A `Safety` that remembers what was captured."""

    async def open(self, database: Database) -> None:
        """Not looked at."""

    async def close(self) -> None:
        """Not looked at."""

    def job(self, job: object, attempt: int) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def listen(self, emit: Callable[[Any], None]) -> Callable[[Any], None]:
        return emit

    async def look(self, facts: Facts, providers: list[dict[str, object]]) -> object:
        return None

    async def text(self, facts: Facts, providers: list[dict[str, object]]) -> str:
        return ""

    def __init__(self) -> None:
        self.captured: list[BaseException] = []

    def breadcrumb(self, event: str, **facts: str | float) -> None:
        """Not looked at."""

    def warn(self, event: str, words: str) -> None:
        """Not looked at."""

    def capture(self, error: BaseException, **facts: str | float) -> None:
        self.captured.append(error)

    def count(self, event: str, **labels: str) -> None:
        """Not looked at."""

    def observe(self, event: str, seconds: float, **labels: str) -> None:
        """Not looked at."""


class Archivist:
    """What a test works with."""

    def __init__(self, folder: Path, *, pepper: str | None = None, url: str | None = None) -> None:
        self.app = Conveyor("concierge", url=url or f"sqlite:///{folder / 'queue.db'}", wrangler=None)
        self.app.declare_queue(DEAD)
        self.now: int | None = None
        """What the tables take for the time; None is the real one."""
        self.database = Database(folder / "concierge.db", all_statements(), lambda: self.now or clock.now_ms())
        self.trail = Trail(self.database, pepper=pepper)
        self.exports = Exports(self.database, self.trail)
        self.holds = Holds(self.database, self.trail)
        self.safety = Quiet()
        self.notices: list[tuple[str, str, str]] = []
        self.sent: list[tuple[Any, int | None]] = []
        declare_schedules(self.app, lambda: self.context)
        self.context = Context(
            settings=Settings(data=folder), database=self.database, messages=cast("Any", None), deliveries=cast("Any", None), trail=self.trail,
            providers=cast("Any", None), bucket=self.app.bucket(BUCKET), safety=self.safety, notify=self._notify,
            enqueue=self._enqueue, start_export=declare_exports(self.app, lambda: self.context),
            dead_letters=dead_letters_of(self.app),
        )  # fmt: skip

    async def _notify(self, user: str, subject: str, content: str) -> None:
        self.notices.append((user, subject, content))

    async def _enqueue(self, job: Any, at: int | None) -> None:
        self.sent.append((job, at))

    async def run(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """SQL of a test's own."""
        return await self.database.write(lambda tx: list(tx.connection.execute(statement, values)))

    async def keys(self, prefix: str = "") -> list[str]:
        """What lies in the bucket."""
        return [each.key for each in (await self.context.bucket.list(prefix=prefix)).objects]

    async def record_at(self, moment: int, actor: str, action: str, target: str) -> None:
        """A record of the trail, written then."""
        self.now = moment
        await self.trail.record(Who(actor), action, target)
        self.now = None


@contextlib.asynccontextmanager
async def open_archivist(
    folder: Path, *, pepper: str | None = None, url: str | None = None
) -> AsyncIterator[Archivist]:
    """One whose tables are open; its app is for the test to open."""
    archivist = Archivist(folder, pepper=pepper, url=url)
    await archivist.database.open()
    try:
        yield archivist
    finally:
        await archivist.database.close()


def wanted(export: str = "export-1", format: Format = Format.CSV, **filters: Any) -> ExportJob:
    """A job of ann's."""
    return ExportJob(export_id=export, filters=filters, user_id="ann", format=format)
