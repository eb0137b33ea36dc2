"""The deployment guide of the movie application, line by line, as far as it speaks of queues; and our own page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from kit.wrangler import Wrangler

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "wrangler.md"
pytestmark = pytest.mark.timeout(600)  # on a first run wrangler is installed


def test_the_queues_of_the_guide(wrangler: Callable[..., Wrangler]) -> None:
    run = wrangler()
    run.ok("queues", "create", "movie-processing-queue")
    run.ok("queues", "create", "movie-processing-dlq")
    listed = run.ok("queues", "list")
    assert "movie-processing-queue" in listed
    assert "movie-processing-dlq" in listed
    options = ("--batch-size", "1", "--message-retries", "3", "--max-concurrency", "2")
    run.ok(
        "queues", "consumer", "add", "movie-processing-queue", "plotburn-movie-api", *options,
        "--dead-letter-queue", "movie-processing-dlq",
    )  # fmt: skip
    shown = run.ok("queues", "consumer", "list", "movie-processing-queue")
    assert "plotburn-movie-api" in shown
    assert "movie-processing-dlq" in shown
    # The guide looks at a dead letter queue with a verb that no wrangler has: it must at least say which there are.
    said = run.run("queues", "consumer", "plotburn-movie-api", "--queue-name", "movie-processing-dlq")
    assert "wrangler queues consumer" in said.out
    run.ok("queues", "consumer", "list", "movie-processing-dlq")


def test_the_commands_of_our_own_page(wrangler: Callable[..., Wrangler]) -> None:
    run = wrangler()
    commands = re.findall(r"^wrangler (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) > 2
    for command in commands:
        run.ok(*shlex.split(command))
