"""What of an answer has to be the same in both stores."""

from __future__ import annotations

from conveyor.store.records import Claimed, Settled, Swept


def nothing(_: object) -> object:
    return None


def grants(claimed: Claimed) -> object:
    return claimed.leases, claimed.calls, claimed.suspects


def fates(settled: Settled) -> object:
    return sorted(settled.lost), sorted(settled.dead)


def swept(swept: Swept) -> object:
    """But for what only a store with purged rows to clear would count."""
    return swept.owners, swept.expired_messages, swept.kv_entries
