"""Which boot of which machine this is: a pid means something only together with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def boot_name() -> str:
    """Names this boot of this machine."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text(encoding="ascii").strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return f"boot-{(time.time_ns() - time.monotonic_ns()) // 60_000_000_000}"
