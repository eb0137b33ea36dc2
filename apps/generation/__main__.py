"""`python -m conveyor_apps.generation`: starts the server with its workers; without a provider's key, a sandbox beside it.

It becomes `conveyor serve`, or `conveyor work` for a worker without HTTP; arguments that are not its own are handed on.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import SettingError
from .settings import DispatchMode, read_settings

TARGET: Final = "conveyor_apps.generation:app"
KEYS: Final = ("VEO3_API_KEY", "OMNI_API_KEY", "AGENT_PLATFORM_TOKEN")
SANDBOX_POLL_S: Final = "1"
"""The sandbox is quick; the document's 5 s would be most of the time."""
TEACHING: Final = """\
first steps:
  python -m conveyor_apps.generation              no key needed: a sandbox makes short test videos
  open http://127.0.0.1:8787                      describe a video, watch it being made

  curl -s http://127.0.0.1:8787/api/generations -H 'content-type: application/json' \\
    -d '{"userId": "ann", "prompt": "a paper boat in the rain"}'
  curl -s http://127.0.0.1:8787/api/queue/status

with a provider (apps/generation/README.md has all settings):
  OMNI_API_KEY=...  python -m conveyor_apps.generation
  VEO3_API_KEY=... GENERATION_PROVIDER=gemini  python -m conveyor_apps.generation

how waiting generations are started, at any time, also while some wait:
  --mode immediate   each at once, all side by side       up to 10 a minute
  --mode cron        one a minute, in their order         up to 1 a minute and tick
  --mode alarm       one after the other, without a pause 10 to 100 a minute
  --mode queue       several at once (GENERATION_WORKERS) more than that; the default
"""


def read_flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Ours, and those that are conveyor's."""
    parser = argparse.ArgumentParser(
        prog="python -m conveyor_apps.generation", description="Video generation jobs: API, workers, and a page.",
        epilog=TEACHING, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("verb", nargs="?", choices=("serve", "work"), default="serve", help="work: no HTTP, only jobs")
    parser.add_argument("--port", type=int, help="where to listen on 127.0.0.1 (8787)")
    parser.add_argument("--mode", choices=[each.value for each in DispatchMode], help="see below (queue)")
    parser.add_argument(
        "--sandbox", action=argparse.BooleanOptionalAction, default=None,
        help="make test videos on this machine; without this flag, where no provider's key is set",
    )  # fmt: skip
    return parser.parse_known_args(arguments)


def plan(
    flags: argparse.Namespace, further: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str], bool]:
    """The command, its environment, and whether a sandbox goes beside it. `SettingError`."""
    given = dict(environment)
    if flags.port is not None:  # videos are linked from there
        given["CONVEYOR_PORT"] = str(flags.port)
    if flags.mode is not None:
        given["GENERATION_DISPATCH"] = flags.mode
    with_sandbox = flags.sandbox
    if with_sandbox is None:
        with_sandbox = flags.verb == "serve" and not any(given.get(name, "").strip() for name in KEYS)
    return [sys.executable, "-m", "conveyor", flags.verb, TARGET, *further], given, with_sandbox
