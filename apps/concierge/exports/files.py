"""The formats of an export: what each is called, and who makes it."""

from collections.abc import Sequence
from typing import Final

from conveyor_apps.concierge.words import Format

from .columns import Column, Encoder
from .csv_text import CsvEncoder
from .json_text import JsonEncoder
from .parquet import ParquetEncoder

CONTENT_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSON: "application/json",
    Format.PARQUET: "application/vnd.apache.parquet",
}


def encoder_of(format: Format, columns: Sequence[Column]) -> Encoder:
    """`ExportError` where its library is missing."""
    match format:
        case Format.CSV:
            return CsvEncoder(columns)
        case Format.JSON:
            return JsonEncoder(columns)
        case Format.PARQUET:
            return ParquetEncoder(columns)
