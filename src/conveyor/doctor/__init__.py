"""Judges a store's facts: each check is a pure function of them, and says ok, warning or problem, and what to do.

The facts come from a `Keeper`. Another database adds its facts to `Facts`, and a table of checks here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from conveyor.doctor import belt, file, server
from conveyor.doctor.finding import Finding, Health, fail
from conveyor.doctor.routes import check_routes
from conveyor.store.facts import BeltFacts, Facts, FileFacts, ServerFacts

__all__ = ["Finding", "Health", "check_routes", "examine", "worst_of"]

FILE_CHECKS: Final[Sequence[Callable[[FileFacts], Finding | None]]] = (
    file.library,
    file.access,
    file.file_system,
    file.disk,
    file.integrity,
    file.journal,
    file.wal,
    file.wake_ups,
)
SERVER_CHECKS: Final[Sequence[Callable[[ServerFacts], Finding | None]]] = (
    server.version,
    server.access,
    server.durability,
    server.connections,
    server.indexes,
    server.vacuum,
    server.bloat,
    server.horizon,
    server.idlers,
    server.wraparound,
    server.wake_ups,
)
BELT_CHECKS: Final[Sequence[Callable[[BeltFacts], Finding | None]]] = (
    belt.clock,
    belt.owners,
    belt.sweep,
    belt.consumers,
    belt.backlogs,
    belt.dead_letters,
    belt.schedules,
)


def examine(facts: Facts) -> list[Finding]:
    """A finding of every check for which there are facts."""
    found: list[Finding | None] = []
    if facts.file is not None:
        found += [check(facts.file) for check in FILE_CHECKS]
    if facts.server is not None:
        found += [check(facts.server) for check in SERVER_CHECKS]
    if facts.schema is not None:
        found.append(belt.schema(facts.schema))
    if facts.belt is not None:
        found += [check(facts.belt) for check in BELT_CHECKS]
    findings = [each for each in found if each is not None]
    if facts.refusal is not None and worst_of(findings) is not Health.PROBLEM and not _is_due(facts):
        findings.append(fail("contents", facts.refusal, "see the hints above"))
    return findings


def _is_due(facts: Facts) -> bool:
    """An older schema is told by its own check, and is no problem."""
    return facts.schema is not None and bool(facts.schema.due)


def worst_of(findings: Sequence[Finding]) -> Health:
    return max((each.verdict for each in findings), key=list(Health).index, default=Health.OK)
