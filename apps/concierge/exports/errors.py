"""What can go wrong with an export."""

from conveyor_apps.concierge.errors import ConciergeError


class ExportError(ConciergeError):
    """It cannot be made, and trying again is useless; the text is for people."""


class StoppedError(ConciergeError):
    """Nobody wants it any more."""
