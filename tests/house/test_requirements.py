"""What `make` installs: pinned by hash, from whatever registry the machine is told to use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from house.source import ROOT

FILES = sorted((ROOT / "requirements").glob("*.txt"))
HOST = re.compile(r"://|--(extra-)?index-url|--find-links|\b[\w-]+\.(org|com|net|io|internal|local)\b")


def test_there_is_one_file_for_each_purpose() -> None:
    assert [path.stem for path in FILES] == ["build", "concierge", "cutmv", "dev", "run"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_requirements_name_no_host(path: Path) -> None:
    assert not HOST.findall(path.read_text(encoding="ascii"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_by_hash(path: Path) -> None:
    text = path.read_text(encoding="ascii").replace("\\\n", " ")
    wanted = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert wanted
    assert all(re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line) for line in wanted)


def test_the_files_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for path in FILES:
        text = path.read_text(encoding="ascii")
        for name, version, python in re.findall(r"^([a-z0-9._-]+)==(\S+)(?: ; (python\S* \S+ \S+))?", text, re.MULTILINE):
            versions.setdefault(f"{name} ; {python}" if python else name, set()).add(version)
    assert not {name: found for name, found in versions.items() if len(found) > 1}
