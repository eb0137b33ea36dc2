"""What webhooks are signed with, and Next.js verifies with: as it is given, else made once and kept in our folder."""

import base64
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .settings import DATA

VARIABLE: Final = "GENERATION_WEBHOOK_SECRET"
KEPT: Final = "nextjs.secret"


def kept_secret(folder: Path) -> str:
    """The one of this folder, made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / KEPT
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as made,
    ):
        made.write("whsec_" + base64.b64encode(secrets.token_bytes(24)).decode())
    return path.read_text().strip()


def find_secret(environment: Mapping[str, str]) -> str:
    """Without making one: empty if there is none."""
    kept = folder_of(environment) / KEPT
    return environment.get(VARIABLE, "").strip() or (kept.read_text().strip() if kept.is_file() else "")


def folder_of(environment: Mapping[str, str]) -> Path:
    """Where ours is kept."""
    return Path(environment.get("GENERATION_DATA", "").strip() or DATA)
