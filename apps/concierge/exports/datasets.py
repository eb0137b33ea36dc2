"""Of what there are exports, and with which columns. They are named once here: files, docs and `verify` go by these."""

from typing import Final

from .columns import Column, Kind
from .exporter import Dataset
from .selection import Rows


def _columns(**kinds: Kind) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


MESSAGES: Final = Dataset(
    name=Rows.MESSAGES,
    columns=_columns(
        id=Kind.TEXT, channel=Kind.TEXT, recipient=Kind.TEXT, subject=Kind.TEXT, content=Kind.TEXT,
        priority=Kind.TEXT, state=Kind.TEXT, version=Kind.NUMBER, send_at=Kind.MOMENT, attempt=Kind.NUMBER,
        error=Kind.TEXT, provider=Kind.TEXT, reference=Kind.TEXT, created_by=Kind.TEXT, reviewed_by=Kind.TEXT,
        created_at=Kind.MOMENT, updated_at=Kind.MOMENT, sent_at=Kind.MOMENT, ended_at=Kind.MOMENT,
    ),
    extent="messages_extent",
    page="messages_page",
)  # fmt: skip
AUDIT: Final = Dataset(
    name=Rows.AUDIT,
    columns=_columns(
        number=Kind.NUMBER, at=Kind.MOMENT, actor=Kind.TEXT, role=Kind.TEXT, address=Kind.TEXT, action=Kind.TEXT,
        target=Kind.TEXT, result=Kind.TEXT, previous=Kind.TEXT, hash=Kind.TEXT,
    ),
    extent="audit_extent",
    page="audit_page",
)  # fmt: skip
DATASETS: Final = {Rows.MESSAGES: MESSAGES, Rows.AUDIT: AUDIT}
