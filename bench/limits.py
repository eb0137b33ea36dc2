"""What each limit costs: sends and drains of one store, beside the same without limits, interleaved.

    python -m bench.limits [--url postgresql://...] [--messages 5000] [--rounds 5]

Sends go in batches of 100; a drain claims 100 at a time and acks them with the next claim's commit group, as one worker
process does. Prints medians, and their ratio to the plain queue's of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.machine import conditions
from conveyor.model.ids import IdSource
from conveyor.model.message import COST_MAX, Draft
from conveyor.model.rate import Rate
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, OwnerInfo
from conveyor.store.urls import make_store

FAR: Final = Rate(1_000_000, 1_000)
"""Never reached."""
LONG: Final = Rate(COST_MAX, 86_400_000)
"""One message spends it for a day."""
KEYS: Final = 1_000
ASIDE: Final = 10
"""Messages that wait behind a key whose rate is spent: a claim looks then for what it may bring back of each key."""
PORTION: Final = 100
KINDS: Final[dict[str, dict[str, object]]] = {
    "plain": {},
    "max_concurrency": {"max_concurrency": 1_000},
    "rate": {"rate": FAR},
    "key_rate, 1,000 keys": {"key_rate": FAR},
    "key_rate, another key's put aside": {"key_rate": LONG},
    "key_concurrency, 1,000 keys": {"key_concurrency": 1_000},
    "ordered, 1,000 keys": {"ordered": True},
    "fair, 1,000 keys": {"fair": True},
    "fair and key_rate": {"fair": True, "key_rate": FAR},
}
_BODY: Final = b'{"order": 7, "item": "lamp", "note": "%s"}' % (b"x" * 160)


async def measure(store: Store, kind: str, messages: int) -> tuple[float, float]:
    """Messages a second, sent and drained."""
    settings = KINDS[kind]
    await store.declare_consumer("bench", ConsumerSettings(script="bench", **settings))  # type: ignore[arg-type]  # by name
    owner = await store.register_owner(OwnerInfo(app="bench", host=store.host, pid=os.getpid(), supervisor_pid=0))
    ids, has_keys = IdSource(store.clock), "keys" in kind or "key_" in kind
    drafts = [
        Draft(id=ids.new(), queue="bench", body=_BODY, key=f"customer-{number % KEYS}" if has_keys else None)
        for number in range(messages)
    ]
    if settings.get("key_rate") is LONG:
        await put_aside(store, owner, ids)
    began = time.perf_counter()
    for start in range(0, messages, PORTION):
        await store.append(drafts[start : start + PORTION])
    sent = time.perf_counter()
    done = 0
    while done < messages:
        claimed = await store.claim(ClaimRequest(queue="bench", owner=owner, limit=PORTION, calls=PORTION))
        acks = [Settlement(lease.seq, lease.claim) for lease in claimed.leases]
        await store.settle(owner, acks, ended={"bench": claimed.calls} if claimed.calls else None)
        done += len(acks)
        assert acks or done == messages, f"{kind}: {done} of {messages} came"
    drained = time.perf_counter()
    await store.delete_queue("bench")
    while (await store.sweep()).purged_messages:
        pass
    return messages / (sent - began), messages / (drained - sent)


async def put_aside(store: Store, owner: int, ids: IdSource) -> None:
    """A key has spent its rate, and the rest of its messages wait until there is room."""
    spent = [Draft(id=ids.new(), queue="bench", body=_BODY, key="spent", cost=COST_MAX)]
    spent += [Draft(id=ids.new(), queue="bench", body=_BODY, key="spent") for _ in range(ASIDE)]
    await store.append(spent)
    [lease] = (await store.claim(ClaimRequest(queue="bench", owner=owner, limit=PORTION))).leases
    await store.settle(owner, [Settlement(lease.seq, lease.claim)])


async def run(make: Callable[[], Store], *, messages: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """All kinds in turn, round after round; the first round only warms up."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    store = make()
    await store.open()
    for number in range(rounds + 1):
        for kind in KINDS:
            rates = await measure(store, kind, messages if number else messages // 5)
            if number:
                found[kind].append(rates)
    await store.close()
    return found


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    sys.stdout.write("| limit | sent/s | of plain | drained/s | of plain |\n| --- | --- | --- | --- | --- |\n")
    for kind, rates in found.items():
        cells = []
        for column in (0, 1):
            ratios = [each[column] / plain[column] for each, plain in zip(rates, found["plain"], strict=True)]
            cells += [f"{statistics.median(each[column] for each in rates):,.0f}", f"{statistics.median(ratios):.2f}"]
        sys.stdout.write(f"| {kind} | {' | '.join(cells)} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a store of its own, to be thrown away; a new SQLite file if it is not given")
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, value in conditions(Path(folder)).items():
            sys.stdout.write(f"{name}: {value}\n")
        sys.stdout.write(f"{options.messages:,} messages, {options.rounds} rounds, interleaved\n\n")
        url = options.url or f"sqlite:///{folder}/bench.db"
        show(asyncio.run(run(lambda: make_store(url), messages=options.messages, rounds=options.rounds)))


if __name__ == "__main__":
    main()
