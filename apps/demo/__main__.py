"""The front step of `python -m conveyor_apps.demo`; `conveyor demo` has the same flags."""

import argparse
import sys
from pathlib import Path

from .show import main

parser = argparse.ArgumentParser(
    prog="python -m conveyor_apps.demo", description="Run plotburn's day against the sandbox."
)
parser.add_argument("--keep", action="store_true", help="leave the server up until Ctrl-C")
parser.add_argument("--movies", type=int, default=50, help="movies in the cinemas, 5 to 300")
parser.add_argument("--processes", type=int, default=2, help="worker processes, 1 to 8")
parser.add_argument("--data", type=Path, help="a new or empty folder for the files; otherwise a temporary one")
if __name__ == "__main__":
    flags = parser.parse_args()
    sys.exit(main(keep=flags.keep, movies=flags.movies, processes=flags.processes, data=flags.data))
