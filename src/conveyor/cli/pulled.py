"""`conveyor messages pull|ack|retry`: a consumer by hand, of a store or of a queue behind HTTP. A lease id names one
delivery; whoever has it may settle it, from any process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import click

from conveyor.cli.answers import (
    DurationType,
    as_remote,
    ask,
    chosen_stores,
    print_json,
    print_rows,
    queue_argument,
    show_body,
    show_moment,
    store_options,
)
from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import DELAY_MS_MAX, PULL_MESSAGES_MAX, PULL_MS_MAX, Lease
from conveyor.model.settings import ConsumerType
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, ClaimRequest

T = TypeVar("T")

_COLUMNS = ("lease_id", "attempts", "sent_at", "body")
_STALE = "the lease is not current any more"
_UNKNOWN = "no such lease"


@click.command()
@queue_argument
@click.option(
    "--batch-size", type=click.IntRange(1, PULL_MESSAGES_MAX), default=5, show_default=True, help="Messages at most."
)
@click.option(
    "--visibility-timeout-secs",
    "--visibility-timeout",
    "lease_ms",
    type=DurationType(least_ms=1_000, most_ms=PULL_MS_MAX),
    help="How long they are hidden from others, as in 60 or 5m; else what the consumer says.",
)
@store_options
def pull(name: str, *, batch_size: int, lease_ms: int | None, url: str | None, as_json: bool) -> None:
    """Take messages of a queue, to be settled by `ack` or `retry` before the lease ends.

    \b
    Example:
      conveyor messages pull letters --batch-size 10
      conveyor messages ack letters LEASE_ID
    """

    async def question(store: Store) -> list[dict[str, Any]]:
        consumer = (await store.get_queue(name)).consumer
        if consumer is None or consumer.type is not ConsumerType.HTTP_PULL:
            hint = f"`conveyor queues consumer http add {name}` makes it one"
            problem = "messages cannot be pulled without an http_pull consumer"
            raise InvalidSettingError("consumer", name, problem, hint=hint)
        request = ClaimRequest(
            queue=name, owner=PULL_OWNER, limit=batch_size, lease_ms=lease_ms or consumer.visibility_timeout_ms
        )
        return [_row(store, each) for each in (await store.claim(request)).leases]

    rows = ask(_place(url, name), question)
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty=f"nothing to pull from `{name}` now")


@click.command()
@queue_argument
@click.argument("lease_ids", metavar="LEASE_ID...", nargs=-1, required=True)
@store_options
def ack(name: str, lease_ids: tuple[str, ...], *, url: str | None, as_json: bool) -> None:
    """Say that pulled messages are done: they are deleted. A late word counts too.

    \b
    Example:
      conveyor messages ack letters 2a-1 2b-1
    """
    _settle(name, lease_ids, None, is_retry=False, url=url, as_json=as_json)


@click.command()
@queue_argument
@click.argument("lease_ids", metavar="LEASE_ID...", nargs=-1, required=True)
@click.option(
    "--delay-secs", "--delay", "delay_ms", type=DurationType(most_ms=DELAY_MS_MAX),
    help="Before the next attempt, as in 90 or 5m; else what the consumer says.",
)
@store_options
def retry(name: str, lease_ids: tuple[str, ...], *, delay_ms: int | None, url: str | None, as_json: bool) -> None:
    """Say that this attempt failed: pulled messages come again, until their retries are spent.

    \b
    Example:
      conveyor messages retry letters 2a-1 --delay 5m
    """
    _settle(name, lease_ids, delay_ms, is_retry=True, url=url, as_json=as_json)


def _settle(
    name: str, lease_ids: Sequence[str], delay_ms: int | None, *, is_retry: bool, url: str | None, as_json: bool
) -> None:
    async def question(store: Store) -> tuple[int, dict[str, str]]:
        remote = as_remote(store)
        if remote is None:
            return await _settle_here(store, name, lease_ids, delay_ms, is_retry=is_retry)
        ids = {"retries" if is_retry else "acks": list(dict.fromkeys(lease_ids))}
        judged = await remote.judge(name, **ids, delay_s=None if delay_ms is None else -(-delay_ms // 1000))
        warnings = judged.warnings if isinstance(judged.warnings, dict) else {}
        return int(judged.retry_count if is_retry else judged.ack_count), {k: str(v) for k, v in warnings.items()}

    count, warnings = ask(_place(url, name), question)
    if as_json:
        print_json({"retryCount" if is_retry else "ackCount": count, "warnings": warnings})
    else:
        click.echo(f"{count:,} will be tried again" if is_retry else f"{count:,} are done")
        for lease_id, why in warnings.items():
            click.echo(f"{lease_id}: {why}", err=True)
    if warnings:
        raise SystemExit(1)


async def _settle_here(
    store: Store, name: str, lease_ids: Sequence[str], delay_ms: int | None, *, is_retry: bool
) -> tuple[int, dict[str, str]]:
    warnings: dict[str, str] = {}
    named: dict[int, str] = {}
    settlements = []
    consumer = (await store.get_queue(name)).consumer
    usual_ms = consumer.retry_delay.base_ms if consumer is not None else 0
    for lease_id in dict.fromkeys(lease_ids):
        place = _read_lease_id(lease_id)
        if place is None:
            warnings[lease_id] = _UNKNOWN
            continue
        action, delay = (Action.RETRY, usual_ms if delay_ms is None else delay_ms) if is_retry else (Action.ACK, None)
        settlements.append(Settlement(*place, action, delay))
        named[place[0]] = lease_id
    lost = (await store.settle_pulled(settlements)).lost if settlements else []
    warnings |= {named[seq]: _STALE for seq in lost}
    return len(settlements) - len(lost), warnings


def _place(url: str | None, queue: str) -> str:
    """The one store in which the queue lives: its leases have their ids there."""
    routing = chosen_stores(url)
    return routing.urls[routing.store_of(queue)]





def _row(store: Store, lease: Lease) -> dict[str, Any]:
    remote = as_remote(store)
    return {
        "lease_id": f"{lease.seq:x}-{lease.claim:x}" if remote is None else remote.lease_id(lease.queue, lease.seq),
        "id": lease.id.hex(),
        "body": show_body(lease),
        "content_type": lease.content_type.value,
        "attempts": lease.attempts,
        "sent_at": show_moment(lease.sent_at),
    }


def _read_lease_id(text: str) -> tuple[int, int] | None:
    seq, _, claim = text.partition("-")
    try:
        place = int(seq, 16), int(claim, 16)
    except ValueError:
        return None
    return place if 0 < place[0] < 2**63 and 0 < place[1] < 2**31 else None
