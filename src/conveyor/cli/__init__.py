"""The command line: `conveyor --help` teaches. A verb's module is imported when the verb is used."""

from conveyor.cli.main import main

__all__ = ["main"]
