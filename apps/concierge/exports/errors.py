"""What can go wrong with an export."""


class ExportError(Exception):
    """It cannot be made, and trying again is useless; the text is for people."""
