"""`python -m conveyor_apps.generation`: the server with its workers; without a provider's key, a sandbox beside it.

It becomes `conveyor serve`, or `conveyor work` for a worker without HTTP; arguments that are not its own are handed on.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from .beside import Beside
from .errors import SettingError
from .secret import VARIABLE, find_secret, folder_of, kept_secret
from .settings import DispatchMode, read_settings
from .web.options import SANDBOX

TARGET: Final = "conveyor_apps.generation:app"
VERBS: Final = ("serve", "work")
KEYS: Final = ("VEO3_API_KEY", "OMNI_API_KEY", "AGENT_PLATFORM_TOKEN")
PORT: Final = "8787"
SANDBOX_POLL_S: Final = "1"
SANDBOX_EXPECTED_S: Final = "3"
"""The sandbox is quick: after the document's 5 s its videos would have been there for long."""
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

how those that wait are started; change it whenever you like, also while some wait:
  --mode immediate   each the moment it is asked for, side by side       fewer than 10 a minute
  --mode cron        once a minute the next one                          time does not matter
  --mode alarm       one after the other, the first after a second       10 to 100 a minute
  --mode queue       as soon as a worker is free, several at once        the default, for all else
"""


def read_flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Ours, and those that are conveyor's."""
    parser = argparse.ArgumentParser(
        prog="python -m conveyor_apps.generation", usage="%(prog)s [serve|work] [options] [conveyor's own options]",
        description="Makes videos from prompts: an API, a page, and the workers. `work` is a worker without HTTP.",
        epilog=TEACHING, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--port", type=int, help="where to listen on 127.0.0.1 (8787)")
    parser.add_argument("--mode", choices=[each.value for each in DispatchMode], help="see below (queue)")
    parser.add_argument(
        "--sandbox", action=argparse.BooleanOptionalAction, default=None,
        help="test videos, made on this machine; so it is, too, where no provider's key is set",
    )  # fmt: skip
    verb, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in VERBS else ("serve", arguments)
    flags, further = parser.parse_known_args(rest)
    flags.verb = verb
    return flags, further


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be started."""

    command: list[str]
    environment: dict[str, str]
    with_sandbox: bool


def make_plan(flags: argparse.Namespace, further: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """From the flags, conveyor's own arguments, and the environment."""
    given = dict(environment)
    if flags.port is not None:  # videos are linked from there
        given["CONVEYOR_PORT"] = str(flags.port)
    if flags.mode is not None:
        given["GENERATION_DISPATCH"] = flags.mode
    with_sandbox = flags.sandbox
    if with_sandbox is None:
        with_sandbox = flags.verb == "serve" and not any(given.get(name, "").strip() for name in KEYS)
    command = [sys.executable, "-m", "conveyor", flags.verb, TARGET, *further]
    return Plan(command=command, environment=given, with_sandbox=with_sandbox)


def start_sandbox(environment: Mapping[str, str]) -> dict[str, str]:
    """Start it, and what stands in for Next.js unless one is named; say where they are, and with which keys. They live
    as long as the pipe is open that this process holds, whatever it becomes. `SettingError`."""
    given = dict(environment)
    port = ""
    if not given.get("NEXTJS_URL", "").strip():
        port = str(int(given.get("CONVEYOR_PORT", "").strip() or PORT) + 1)
        given[VARIABLE] = find_secret(given) or kept_secret(folder_of(given))
    held_by_it, held_by_us = os.pipe()
    os.set_inheritable(held_by_us, True)
    beside = subprocess.Popen(  # it is not waited for: the pipe ends it
        [sys.executable, "-m", "conveyor_apps.generation.beside", *filter(None, [port])], stdin=held_by_it,
        stdout=subprocess.PIPE, env=given, start_new_session=True,
    )  # fmt: skip
    os.close(held_by_it)
    assert beside.stdout is not None
    with beside.stdout as said:
        line = said.readline()
    if not line:
        raise SettingError("the sandbox did not start, see above; or set a provider's key")
    there = msgspec.json.decode(line, type=Beside)
    if there.nextjs is not None:
        given["NEXTJS_URL"] = there.nextjs
    return given | {
        "VEO3_BASE_URL": f"{there.sandbox}/gemini", "VEO3_API_KEY": SANDBOX,
        "OMNI_BASE_URL": f"{there.sandbox}/omni", "OMNI_API_KEY": SANDBOX,
        "AGENT_PLATFORM_BASE_URL": f"{there.sandbox}/agent-platform", "AGENT_PLATFORM_TOKEN": SANDBOX,
        "GOOGLE_CLOUD_PROJECT": SANDBOX,
        "GENERATION_POLL_S": given.get("GENERATION_POLL_S", "").strip() or SANDBOX_POLL_S,
        "GENERATION_EXPECTED_S": given.get("GENERATION_EXPECTED_S", "").strip() or SANDBOX_EXPECTED_S,
    }  # fmt: skip


def main() -> None:
    """Become it, or say what is missing."""
    flags, further = read_flags(sys.argv[1:])
    plan = make_plan(flags, further, os.environ)
    environment = plan.environment
    try:
        if plan.with_sandbox:
            environment = start_sandbox(environment)
            port = environment.get("CONVEYOR_PORT") or PORT
            print(f"generation: a sandbox makes test videos; open http://127.0.0.1:{port}", file=sys.stderr, flush=True)
        read_settings(environment)
    except SettingError as error:
        sys.exit(f"generation: {error}")
    os.execve(plan.command[0], plan.command, environment)  # noqa: S606  # no shell is what we want


if __name__ == "__main__":
    main()
