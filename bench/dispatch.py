"""What each mode of dispatch gives and takes: seconds to the start, messages a second, and processor time, interleaved.

    python -m bench.dispatch [--url postgresql://...] [--messages 2000] [--rounds 3] [--ticks 1]

One process sends and works, with a handler that does nothing. Latency is from just before `send` to the handler's first
line, one message at a time. A drain is of messages that wait; 50 senders fill while the worker works. `cron` waits for
real minutes, so it has rounds of its own (`--ticks`): its latency is that of sends spread over a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.machine import conditions
from conveyor import Conveyor, Dispatch, Message

SENDERS: Final = 50
ALARM_MESSAGES: Final = 200
"""One at a time: enough."""
LATENCIES: Final = {Dispatch.QUEUE: 200, Dispatch.IMMEDIATE: 200, Dispatch.ALARM: 8, Dispatch.CRON: 20}


@dataclass
class Found:
    """Of one mode, over all rounds."""

    latencies_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


class Bench:
    """An app with one queue in one mode, at work."""

    def __init__(self, url: str, mode: Dispatch, most: int) -> None:
        self.app = Conveyor("bench", url=url)
        self.began: dict[int, float] = {}
        self.wanted = 0
        self.done = asyncio.Event()
        name = f"bench-{mode}"
        self.queue = self.app.queue(name)

        @self.app.consumer(name, max_batch_size=1, dispatch=str(mode), dispatch_messages=min(most, 10_000))
        async def handle(message: Message[int]) -> None:
            self.began[message.body] = time.perf_counter()
            if len(self.began) >= self.wanted:
                self.done.set()

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with self.app:
            worker = asyncio.create_task(self.app.work())
            await asyncio.sleep(0.5)
            try:
                yield
            finally:
                worker.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await worker

    def expect(self, count: int) -> None:
        self.began.clear()
        self.wanted = count
        self.done.clear()


async def measure_latency(bench: Bench, mode: Dispatch, found: Found) -> None:
    count = LATENCIES[mode]
    if mode is Dispatch.CRON:
        bench.expect(count)
        moments = sorted(random.uniform(0, 60) for _ in range(count))
        start, sent = time.perf_counter(), {}
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))
            sent[number] = time.perf_counter()
            await bench.queue.send(number)
        await bench.done.wait()
        found.latencies_s += [bench.began[number] - at for number, at in sent.items()]
        return
    for number in range(count):
        bench.expect(1)
        before = time.perf_counter()
        await bench.queue.send(number)
        await bench.done.wait()
        found.latencies_s.append(bench.began[number] - before)
        await asyncio.sleep(random.uniform(0, 0.02))


async def measure_rate(bench: Bench, mode: Dispatch, messages: int, found: Found) -> None:
    bench.expect(messages)
    numbers = iter(range(messages))

    async def send() -> None:
        for number in numbers:
            await bench.queue.send(number)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(send() for _ in range(SENDERS)))
    await bench.done.wait()
    first = min(bench.began.values()) if mode is Dispatch.CRON else began  # the wait for the tick is not its work
    found.rates.append(messages / (max(bench.began.values()) - first))
    found.cpu_ms.append((time.process_time() - cpu) * 1000 / messages)


async def run(url: str, messages: int, rounds: int, ticks: int) -> dict[Dispatch, Found]:
    """All modes in turn, round after round."""
    found = {mode: Found() for mode in Dispatch}
    for number in range(max(rounds, ticks)):
        for mode in Dispatch:
            if number >= (ticks if mode is Dispatch.CRON else rounds):
                continue
            most = messages if mode in {Dispatch.QUEUE, Dispatch.IMMEDIATE} else min(messages, ALARM_MESSAGES)
            bench = Bench(url, mode, most)
            async with bench.at_work():
                await measure_latency(bench, mode, found[mode])
                await measure_rate(bench, mode, most, found[mode])
    return found


def show(found: dict[Dispatch, Found]) -> None:
    head = "| mode | start after, p50 | p99 | messages/s | CPU per message |\n| --- | --- | --- | --- | --- |\n"
    sys.stdout.write(head)
    for mode, each in found.items():
        if not each.rates:
            continue
        times = sorted(each.latencies_s)
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        rates, cpu = statistics.median(each.rates), statistics.median(each.cpu_ms)
        spread = f"{min(each.rates):,.0f}–{max(each.rates):,.0f}"
        sys.stdout.write(f"| {mode} | {_shown(p50)} | {_shown(p99)} | {rates:,.0f} ({spread}) | {cpu:.2f} ms |\n")


def _shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a store of its own, to be thrown away; a new SQLite file if it is not given")
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ticks", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, value in conditions(Path(folder)).items():
            sys.stdout.write(f"{name}: {value}\n")
        sys.stdout.write(f"{options.messages:,} messages, {options.rounds} rounds, interleaved\n\n")
        url = options.url or f"sqlite:///{folder}/bench.db"
        show(asyncio.run(run(url, options.messages, options.rounds, options.ticks)))


if __name__ == "__main__":
    main()
