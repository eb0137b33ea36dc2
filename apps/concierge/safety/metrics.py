"""Counts and times of all processes, in Prometheus' text format.

Each process sums up for itself and adds to a table every other second and when it ends; one that is killed takes what
it had not added with it. How messages stand is asked of their own table.
"""

import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from conveyor_apps.concierge.words import ExportState, State
from conveyor_apps.tables import Database, Row, Transaction

FLUSH_S: Final = 2.0
ALL_HOURS: Final = 24 * 366 * 100
SERIES_MAX: Final = 1_000
"""Of one process; what is new beyond goes under `other`."""
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
_NAMES: Final = frozenset({
    "type", "reason", "provider", "channel", "outcome", "state", "queue", "alert", "event", "target",
})  # fmt: skip

Key = tuple[str, str]
"""A metric's name, and its labels as JSON."""


class Meter:
    """What one process has counted and not yet added to the table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[Key, tuple[int, float]] = {}
        self._known: set[Key] = set()

    def add(self, name: str, labels: Mapping[str, str], amount: float = 0.0) -> None:
        """One more, which took or had so much."""
        key = name, _labels(labels)
        with self._lock:
            if key not in self._known and len(self._known) >= SERIES_MAX:
                key = name, _labels(dict.fromkeys(labels, "other"))
            self._known.add(key)
            count, total = self._sums.get(key, (0, 0.0))
            self._sums[key] = count + 1, total + amount

    async def flush(self, database: Database) -> None:
        """Add it to the table."""
        with self._lock:
            sums, self._sums = self._sums, {}
        if not sums:
            return

        def work(tx: Transaction) -> None:
            for (name, labels), (count, total) in sums.items():
                tx.change("add_metric", name=name, labels=labels, count=count, sum=total)

        try:
            await database.write(work)
        except BaseException:
            with self._lock:
                for key, (count, total) in sums.items():
                    was = self._sums.get(key, (0, 0.0))
                    self._sums[key] = was[0] + count, was[1] + total
            raise


async def metrics_text(
    database: Database, facts: Callable[[], Awaitable[Mapping[str, Any]]], providers: list[dict[str, object]]
) -> str:
    """Everything, for `GET /metrics`."""
    rows, kept, events, written, alarms = await database.read(_read)
    states: dict[str, int] = dict(kept)
    exports: dict[str, int] = dict(written)
    try:
        depth: Mapping[str, Any] = await facts()
    except Exception:  # noqa: BLE001  # a store that does not answer is what this metric is for
        depth = {}
    lines = [
        *_head("queue_up", "gauge", "1 if the queue answers."), f"concierge_queue_up {int(bool(depth))}",
        *_head("queue_depth", "gauge", "Messages in the queue, those that are worked on included."),
        *(f"concierge_queue_depth {depth['backlog']}" for _ in [0] if "backlog" in depth),
        *_head("dead_letters", "gauge", "Messages that failed for good."),
        *(f"concierge_dead_letters {depth['deadLetters']}" for _ in [0] if "deadLetters" in depth),
        *_head("messages", "gauge", "Messages that are kept, by state."),
        *(f'concierge_messages{{state="{state}"}} {states.get(state, 0)}' for state in State),
        *_head("message_events_total", "counter", "What happened to messages."),
        *(f'concierge_message_events_total{{event="{event}"}} {count}' for event, count in events),
        *_head("exports", "gauge", "Exports that are kept, by state."),
        *(f'concierge_exports{{state="{state}"}} {exports.get(state, 0)}' for state in ExportState),
        *_head("provider_up", "gauge", "1 if its circuit is closed."),
        *(f'concierge_provider_up{{provider="{_word(each.get("name"))}"}} {int(_is_up(each))}' for each in providers),
        *_head("alerts", "gauge", "What is wrong just now."),
        *(f'concierge_alerts{{alert="{name}"}} 1' for name, _, _ in alarms),
        *_told(rows),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _read(tx: Transaction) -> tuple[list[Row], list[Row], list[Row], list[Row], list[Row]]:
    events = tx.rows("counts", hours=ALL_HOURS)
    return tx.rows("metrics"), tx.rows("states"), events, tx.rows("exports_by_state"), tx.rows("alarms")


def _told(rows: list[tuple[Any, ...]]) -> list[str]:
    lines, last = list[str](), ""
    for name, labels, count, total in rows:
        is_time = name.endswith("_seconds")
        if name != last:
            called, kind = (name, "summary") if is_time else (f"{name}_total", "counter")
            lines += _head(called, kind, "As processes told.")
            last = name
        shown = ",".join(f'{label}="{value}"' for label, value in msgspec.json.decode(labels).items())
        braced = f"{{{shown}}}" if shown else ""
        if is_time:
            lines += [f"concierge_{name}_count{braced} {count}", f"concierge_{name}_sum{braced} {total:.6f}"]
        else:
            lines.append(f"concierge_{name}_total{braced} {count}")
    return lines


def _head(name: str, kind: str, means: str) -> list[str]:
    return [f"# HELP concierge_{name} {means}", f"# TYPE concierge_{name} {kind}"]


def _labels(labels: Mapping[str, str]) -> str:
    """As JSON, sorted: labels have names from a list and short words, so that no text of a message can be one."""
    kept = {name: _word(value) for name, value in sorted(labels.items()) if name in _NAMES}
    return msgspec.json.encode(kept).decode()


def _word(value: object) -> str:
    text = str(value)
    return text if _LABEL.fullmatch(text) else "other"


def _is_up(provider: Mapping[str, object]) -> bool:
    return str(provider.get("circuit", "closed")) != "open"
