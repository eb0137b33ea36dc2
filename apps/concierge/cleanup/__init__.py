"""Cleanup: what is older than it is kept goes, archived before it is deleted, and never what is under a legal hold.

    run_cleanup -> audit_logs | message_queue (messages, then dead letters) | temp_files
                        |
                   archiving: a compressed file in the bucket, read back and compared before anything is deleted

Each works in batches that are bounded; one that was cut short is done again, and finds what is left.
"""

from .cleaning import Cleaned, preview_cleanup, run_cleanup
from .declared import dead_letters_of, declare_schedules
from .holds import Hold, HoldKind, Holds

__all__ = [
    "Cleaned", "Hold", "HoldKind", "Holds", "dead_letters_of", "declare_schedules", "preview_cleanup", "run_cleanup",
]  # fmt: skip
