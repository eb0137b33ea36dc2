"""The conditions of a run: a number without them means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from time import perf_counter

WRITES = 200
BLOCK = bytes(4096)


def conditions(directory: Path) -> dict[str, str]:
    """What is true of the machine and the disk before anything is measured."""
    p50, p99 = fsync_ms(directory)
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load average": load_average(),
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": f"{_file_system(directory)}",
        "fsync of 4 KiB appended": f"p50 {p50:.2f} ms, p99 {p99:.2f} ms",
    }


def load_average() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def fsync_ms(directory: Path) -> tuple[float, float]:
    """Median and 99th percentile of an append with fsync, where the queues' files will be."""
    path = directory / "fsync.probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(WRITES):
            started = perf_counter()
            file.write(BLOCK)
            os.fsync(file.fileno())
            times.append(1000 * (perf_counter() - started))
    path.unlink()
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(directory: Path) -> str:
    """Its type, and a warning where an fsync reaches no disk."""
    asked = subprocess.run(["df", "-PT", str(directory)], check=False, capture_output=True, text=True)
    if asked.returncode:
        return "unknown"
    kind = asked.stdout.splitlines()[-1].split()[1]
    return f"{kind} (in memory: an fsync costs nothing, choose another --dir)" if kind == "tmpfs" else kind
