"""`python -m conveyor_apps.concierge`: see `--help`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="concierge")
