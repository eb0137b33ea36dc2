"""All named statements of concierge's tables, out of the files that hold them."""

from collections.abc import Mapping
from typing import Final

from conveyor_apps.tables import read_statements

FILES: Final = ("ledger.sql", "exports.sql", "cleanup.sql", "safety.sql", "suppressions.sql")


def all_statements() -> Mapping[str, str]:
    """By their names; `schema` makes the tables that are not there."""
    found: dict[str, str] = {}
    for file in FILES:
        for name, sql in read_statements("conveyor_apps.concierge", file).items():
            found[name] = f"{found[name]}\n{sql}" if name == "schema" and name in found else sql
    return found
