"""The record of an archive, written in the transaction that deletes what it holds."""

from conveyor_apps.concierge.audit import SYSTEM, Trail
from conveyor_apps.tables import Transaction

from .archiving import Archive


def keep(tx: Transaction, trail: Trail, archive: Archive) -> None:
    """Say where it is, and that it was for this that rows went."""
    tx.change(
        "add_archive", key=archive.key, target=archive.target, rows=archive.rows, bytes=archive.size,
        sha256=archive.sha256, first=archive.first_at, last=archive.last_at,
    )  # fmt: skip
    trail.write(tx, SYSTEM, "cleanup.archived", archive.key)
