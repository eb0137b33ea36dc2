"""Links to files of exports: whoever has one may read that file until it ends, and nothing else. Each is made for
somebody who is signed in, and the trail says for whom; the mail that tells of an export holds none."""

from dataclasses import dataclass

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import Who
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.errors import RefusedError
from conveyor_apps.concierge.words import ExportState

from .standing import Exports

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where to get a file."""

    url: str
    expires_at: int
    sha256: str
    size: int


async def make_link(context: Context, export: str, who: Who) -> Link:
    """A URL of conveyor's that ends with the file, and after `link_hours` at the latest. `RefusedError` where there is
    no file."""
    found = await Exports(context.database, context.trail).find(export)
    if found is None:
        raise RefusedError("There is no such export.", status=404)
    if found.state is not ExportState.READY or found.key is None or found.expires_at is None:
        raise RefusedError("This export has no file.", status=409)
    now = clock.now_ms()
    until = min(found.expires_at, now + context.settings.keeping.link_hours * HOUR_MS)
    if until - now < 1_000:
        raise RefusedError("This export's file is not kept any more.", status=410)
    url = await context.bucket.sign_get(found.key, expires_in=(until - now) / 1_000)
    await context.trail.record(who, "export.link", export)
    return Link(url=url, expires_at=until, sha256=found.sha256 or "", size=found.bytes or 0)
