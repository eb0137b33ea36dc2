"""`python -m conveyor_apps.cutmv`: looks for FFmpeg, says where the queue is, and becomes `conveyor serve`.

With `work` it becomes `conveyor work` instead, for the orders alone: a worker without browsers, on any machine that
reaches the same stores. Further arguments are handed on.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence

from .errors import SettingError
from .ffmpeg import find_tools
from .settings import read_settings, routes_of, stores_of

TARGET = "conveyor_apps.cutmv:app"


def plan(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command and its environment. `SettingError`."""
    verb, rest = (arguments[0], arguments[1:]) if arguments[:1] in (["serve"], ["work"]) else ("serve", arguments)
    if port := _port_of(rest):  # workers have to know it too: that is where they report
        environment = {**environment, "CONVEYOR_PORT": port}
    settings = read_settings(environment)
    find_tools(environment)
    only = ["--queues", settings.queue] if verb == "work" else []
    command = [sys.executable, "-m", "conveyor", verb, TARGET, *only, *rest]
    if settings.cloudflare is None:
        return command, dict(environment)
    tables = {"CONVEYOR_STORES": stores_of(settings.cloudflare), "CONVEYOR_ROUTES": routes_of(settings.cloudflare)}
    return command, {**environment, **{name: json.dumps(table) for name, table in tables.items()}}


def _port_of(arguments: Sequence[str]) -> str:
    """What `--port` says, or nothing."""
    for each, following in zip(arguments, (*arguments, "")[1:], strict=True):
        if each == "--port":
            return following
        if each.startswith("--port="):
            return each.partition("=")[2]
    return ""


def main() -> None:
    """Become it, or say what is missing."""
    try:
        command, environment = plan(sys.argv[1:], os.environ)
    except SettingError as error:
        sys.exit(f"cutmv: {error}")
    os.execve(command[0], command, environment)  # noqa: S606  # no shell is what we want


if __name__ == "__main__":
    main()
