"""What can be wrong with the sandbox itself (not with the providers it plays): each error has a code, a hint and facts.

SandboxError
  SandboxHostError      it was asked to listen where strangers could reach it
  SandboxSettingError   a setting or an admin body is out of its limits
  SandboxPortError      the port is taken
"""

from typing import ClassVar


class SandboxError(ValueError):
    """The root; a ValueError, so that decoding a setting reports it as a validation error."""

    code: ClassVar[str] = "sandbox_error"
    hint: str = "see apps/sandbox/README.md"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class SandboxHostError(SandboxError):
    """The sandbox has no real authentication, so it never listens beyond loopback."""

    code = "sandbox_host_refused"
    hint = "use `--host 127.0.0.1` (the default); the sandbox accepts any key, so it must stay on this machine"

    def __init__(self, host: str) -> None:
        super().__init__(f"host `{host}` is not a loopback address", host=host)


class SandboxSettingError(SandboxError):
    """A setting is out of its limits."""

    code = "sandbox_setting_invalid"

    def __init__(self, name: str, *, problem: str, hint: str = "see apps/sandbox/README.md") -> None:
        super().__init__(f"setting `{name}` {problem}", setting=name)
        self.hint = hint


class SandboxPortError(SandboxError):
    """The operating system did not give the port."""

    code = "sandbox_port_unavailable"
    hint = "use `--port 0` to take any free port"

    def __init__(self, port: int, *, reason: str) -> None:
        super().__init__(f"cannot listen on port `{port}`: {reason}", port=port)
