"""`python -m conveyor_apps.generation.beside`: the sandbox, for as long as somebody holds its standard input open.

Who starts it becomes another program afterwards, and keeps the pipe: however that one ends, killed too, this ends.
"""

import os
import sys
from typing import Final

from conveyor_apps.sandbox.errors import SandboxError
from conveyor_apps.sandbox.serve import serving
from conveyor_apps.sandbox.settings import SandboxSettings

GENERATION_S: Final = "6"
"""How long the sandbox takes for a video: long enough to see it move, short enough to wait for."""


def main() -> None:
    """Say where it is, in one line, and wait for the end."""
    seconds = os.environ.get("SANDBOX_GENERATION_S", "").strip() or GENERATION_S
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 6):
        sys.exit(f"sandbox: `SANDBOX_GENERATION_S` is `{seconds}`: give a whole number of seconds")
    try:
        with serving(SandboxSettings(generation_s=int(seconds), is_clock_running=True)) as url:
            print(url, flush=True)
            sys.stdin.buffer.read()
    except SandboxError as error:
        sys.exit(f"sandbox: {error} {error.hint}")


if __name__ == "__main__":
    main()
