"""What cutmv says aloud: one line on stderr for each thing that operators want to follow."""

import sys


def say(line: str) -> None:
    """One line; what is not printed does not come through."""
    shown = "".join(sign if sign.isprintable() or sign == "\ufe0f" else "?" for sign in line)
    print(shown[:2_000], file=sys.stderr, flush=True)
