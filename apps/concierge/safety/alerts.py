"""What is wrong, looked for once a minute: told when it begins and when it is over, to a webhook and to Sentry.

    failures     more than a tenth of the messages that ended in the last two hours have failed, of 20 at least
    backlog      a message that could go has waited for 10 minutes for its first attempt
    dead_letters messages lie in the dead letter queue
    circuit      a provider is not called any more, since it fails
    exports      an export has failed in the last hour
    queue        the queue does not answer
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import ConciergeError
from conveyor_apps.tables import Database, Transaction

FAILURES: Final = 0.1
ENDED_MIN: Final = 20
WAITED_MS: Final = 10 * 60_000
HOUR_MS: Final = 3_600_000
WEBHOOK_S: Final = 10.0
_FAILED: Final = ("failed", "bounced")
_GOOD: Final = ("sent", "delivered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that is wrong, or is not any more. Numbers and names of queues and providers only."""

    name: str
    detail: str
    is_over: bool = False


class WebhookError(ConciergeError):
    """The webhook did not take an alert; the next look tells it again."""


Facts = Callable[[], Awaitable[Mapping[str, Any]]]
Tell = Callable[[Alert], Awaitable[None]]


async def look(
    database: Database, facts: Facts, providers: Sequence[Mapping[str, object]], tell: Tell
) -> list[Alert]:
    """Compare what is wrong with what was known to be, and tell the differences. What could not be told is not kept,
    so that the next look tells it again."""
    wrong = await _find_wrong(database, facts, providers)
    known = {name: detail for name, _, detail in await database.read(lambda tx: tx.rows("alarms"))}
    begun = [Alert(name=name, detail=detail) for name, detail in wrong.items() if name not in known]
    over = [Alert(name=name, detail=detail, is_over=True) for name, detail in known.items() if name not in wrong]
    for alert in (*begun, *over):
        await tell(alert)
        await database.write(lambda tx, alert=alert: _keep(tx, alert))  # type: ignore[misc]  # the default binds this turn's
    return [*begun, *over]


def _keep(tx: Transaction, alert: Alert) -> None:
    if alert.is_over:
        tx.change("resolve_alarm", name=alert.name)
    else:
        tx.change("raise_alarm", name=alert.name, detail=alert.detail)


async def _find_wrong(
    database: Database, facts: Facts, providers: Sequence[Mapping[str, object]]
) -> dict[str, str]:
    wrong: dict[str, str] = {}
    try:
        depth: Mapping[str, Any] = await facts()
    except Exception as error:  # noqa: BLE001  # whatever keeps it from answering is what is told
        return {"queue": f"the queue does not answer: {type(error).__name__}"}
    rows, [[oldest]], [[exports]] = await database.read(
        lambda tx: (tx.rows("counts", hours=2), tx.rows("oldest_queued"), tx.rows("exports_failed", since=HOUR_MS))
    )
    counts: dict[str, int] = dict(rows)
    failed, good = sum(counts.get(each, 0) for each in _FAILED), sum(counts.get(each, 0) for each in _GOOD)
    if failed + good >= ENDED_MIN and failed > FAILURES * (failed + good):
        wrong["failures"] = f"{failed:,} of {failed + good:,} messages have failed within the last two hours"
    waited_ms = 0 if oldest is None else clock.now_ms() - int(oldest)
    if waited_ms > WAITED_MS:
        wrong["backlog"] = f"a message has waited for {waited_ms // 60_000:,} minutes"
    if depth.get("deadLetters"):
        wrong["dead_letters"] = f"{int(depth['deadLetters']):,} messages lie in the dead letter queue"
    for each in providers:
        if str(each.get("circuit")) == "open":
            wrong[f"circuit.{each.get('name')}"] = f"{each.get('name')} fails and is not called"
    if exports:
        wrong["exports"] = f"{exports:,} exports have failed within the last hour"
    return wrong


async def call_webhook(url: str, alert: Alert) -> None:
    """`WebhookError`."""
    body = {
        "app": "concierge", "alert": alert.name, "state": "resolved" if alert.is_over else "firing",
        "detail": alert.detail, "at": clock.iso(clock.now_ms()),
    }  # fmt: skip
    try:
        async with httpx2.AsyncClient(timeout=WEBHOOK_S, trust_env=False, follow_redirects=False) as client:
            response = await client.post(url, json=body)
    except httpx2.HTTPError as error:
        raise WebhookError(f"the alert webhook cannot be reached: {type(error).__name__}") from None
    if not response.is_success:
        raise WebhookError(f"the alert webhook answered {response.status_code}")
