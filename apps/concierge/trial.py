"""Concierge without providers: a sandbox beside it takes mail and text messages, and nothing leaves the machine."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.request import ProxyHandler, build_opener

from .errors import SettingError

PROVIDERS: Final = ("SMTP_URL", "RESEND_API_KEY", "TWILIO_AUTH_TOKEN")
SAID: Final = "sandbox listening on "
TRIAL: Final = "trial"
"""A mark: who works here tries it out."""
KNOWN: Final = "sandbox.json"
"""Where other processes of this machine find the one that runs."""
CALL_S: Final = 10.0


def has_providers(environment: Mapping[str, str]) -> bool:
    """Whether there is somebody to carry messages."""
    return any(environment.get(name, "").strip() for name in PROVIDERS)


def is_trial(data: Path) -> bool:
    """Whether what lies here is of an earlier trial."""
    return (data / TRIAL).exists()


def begin_trial(data: Path) -> None:
    """From now on it is one."""
    (data / TRIAL).touch()


def end_trial(data: Path) -> None:
    """There are providers now."""
    (data / TRIAL).unlink(missing_ok=True)


@contextlib.contextmanager
def sandbox_beside(data: Path) -> Iterator[dict[str, str]]:
    """A sandbox for the length of the block; the variables that lead to it, and `SANDBOX_URL` for people."""
    command = [sys.executable, "-u", "-m", "conveyor_apps.sandbox", "--smtp-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if not line.startswith(SAID):
            raise SettingError("the sandbox did not start: is `aiosmtpd` installed? (pip install 'conveyor[sandbox]')")
        found = _variables(line.removeprefix(SAID).strip(), data)
        (data / KNOWN).write_text(json.dumps(found))
        yield found
    finally:
        (data / KNOWN).unlink(missing_ok=True)
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def running_sandbox(data: Path) -> dict[str, str]:
    """The variables that lead to the sandbox of a server that runs; empty if there is none."""
    try:
        found = json.loads((data / KNOWN).read_text())
        _get(f"{found['SANDBOX_URL']}/admin/mail")
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {str(name): str(value) for name, value in found.items()}


def _variables(url: str, data: Path) -> dict[str, str]:
    data.mkdir(parents=True, exist_ok=True)
    authority = data / "sandbox-ca.pem"
    authority.write_bytes(_get(f"{url}/admin/ca.pem"))
    smtp = json.loads(_get(f"{url}/admin/mail"))["smtp"]
    return {
        "SANDBOX_URL": url, "SMTP_URL": f"smtp://concierge:sandbox@{smtp['host']}:{smtp['starttls']}",
        "SMTP_CA": str(authority), "TWILIO_BASE_URL": f"{url}/twilio", "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "sandbox", "TWILIO_FROM": "+15005550006",
    }  # fmt: skip


def _get(url: str) -> bytes:
    """From this machine, past any proxy."""
    with build_opener(ProxyHandler({})).open(url, timeout=CALL_S) as answer:
        found: bytes = answer.read()
    return found


def become(command: list[str], environment: Mapping[str, str]) -> None:
    """This process, from now on."""
    os.execve(command[0], command, environment)  # noqa: S606  # no shell is what we want
