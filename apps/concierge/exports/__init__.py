"""Exports: rows of the database into a file of the bucket, in constant memory.

    run_export -> the queue of exports -> writing -> exporter -> reading, csv_text | json_text | parquet -> the bucket
                                             |
                                          standing: how each one stands, in the table

They have a queue and workers of their own: one takes minutes, and messages do not wait behind it.
"""

from .declared import declare_exports, run_export
from .links import Link, make_link
from .selection import Rows, Selection, check_filters
from .standing import Export, Exports
from .verifying import FileExamined, verify_file

__all__ = [
    "Export", "Exports", "FileExamined", "Link", "Rows", "Selection", "check_filters", "declare_exports", "make_link",
    "run_export", "verify_file",
]  # fmt: skip
