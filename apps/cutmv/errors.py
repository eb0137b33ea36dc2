"""What can go wrong in cutmv.

CutmvError
  SettingError     a variable of the environment is wrong, or FFmpeg is missing
  RefusedError     a caller asked for what cannot be; the text is for people, and is shown to them
    MediaError     the file itself cannot be used, or goes beyond a limit: trying again is useless
  ToolError        FFmpeg failed for a reason of the machine; trying again may help
  ReportError      the server did not take an event
  StoppedError     the order was cancelled, or somebody else is at it: leave it
"""


class CutmvError(Exception):
    """The root."""


class SettingError(CutmvError):
    """A variable of the environment is wrong, or FFmpeg is missing; the text names it and never shows a secret."""


class RefusedError(CutmvError):
    """What was asked for cannot be done. The text is shown to people."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(text)


class MediaError(RefusedError):
    """The file is not what we can read, or one of its outputs goes beyond a limit."""

    def __init__(self, text: str) -> None:
        super().__init__(text, status=422)


class ToolError(CutmvError):
    """A child failed; another attempt may not."""


class ReportError(CutmvError):
    """An event did not arrive."""


class StoppedError(CutmvError):
    """Nobody waits for this order's outputs any more."""
