"""What a check has to say."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Health(StrEnum):
    """From good to bad; a problem makes `conveyor doctor` fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's verdict."""

    check: str
    verdict: Health
    found: str
    hint: str = ""


def fine(check: str, found: str) -> Finding:
    return Finding(check=check, verdict=Health.OK, found=found)


def warn(check: str, found: str, hint: str) -> Finding:
    return Finding(check=check, verdict=Health.WARNING, found=found, hint=hint)


def fail(check: str, found: str, hint: str) -> Finding:
    return Finding(check=check, verdict=Health.PROBLEM, found=found, hint=hint)


def show_age(milliseconds: int) -> str:
    """`3 min`, `2 days`: roughly, for people."""
    for unit, size in (("days", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if milliseconds >= 2 * size:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds // 1_000} s"


def show_bytes(count: int) -> str:
    """`12.3 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
