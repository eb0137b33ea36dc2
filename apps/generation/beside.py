"""`python -m conveyor_apps.generation.beside`: the sandbox, for as long as somebody holds its standard input open.

Who starts it becomes another program afterwards, and keeps the pipe: however that one ends, killed too, this ends.
"""

import sys

from conveyor_apps.sandbox.errors import SandboxError
from conveyor_apps.sandbox.serve import serving
from conveyor_apps.sandbox.settings import SandboxSettings


def main() -> None:
    """Say where it is, in one line, and wait for the end."""
    try:
        with serving(SandboxSettings()) as url:
            print(url, flush=True)
            sys.stdin.buffer.read()
    except SandboxError as error:
        sys.exit(f"sandbox: {error} {error.hint}")


if __name__ == "__main__":
    main()
