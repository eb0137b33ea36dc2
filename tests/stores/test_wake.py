"""The folder in which processes of one file wake each other: it goes with the last of them, and takes nobody's files."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conveyor.store.sqlite.wake import Postbox

ID = "0123456789abcdef"
LONG_AGO = 1_000_000_000.0
NAMES = frozenset({"jobs"})


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets of ID's file lie; short, as the path of a socket must be."""
    base = tempfile.mkdtemp(prefix="w")
    monkeypatch.setattr(tempfile, "tempdir", base)
    yield Path(base) / f"conveyor-{os.getuid()}-{ID}"
    shutil.rmtree(base)


def ring(store_id: str = ID) -> None:
    teller = Postbox(store_id)
    teller.ring(NAMES)
    teller.close()


def heard(box: Postbox) -> set[str]:
    names: set[str] = set()
    box.read(names.update)
    return names


def leave_a_socket(folder: Path) -> Path:
    """As a process leaves it that was killed long ago."""
    folder.mkdir(exist_ok=True)
    left = folder / "1-dead"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(left))
    os.utime(left, (LONG_AGO, LONG_AGO))
    return left


def test_the_last_one_out_removes_the_folder(folder: Path) -> None:
    first, second = Postbox(ID), Postbox(ID)
    assert first.open() and second.open()
    first.close()
    assert folder.is_dir()
    ring()
    assert heard(second) == NAMES
    second.close()
    assert not folder.exists()
    assert first.open()
    first.close()


def test_what_a_killed_process_leaves_goes_with_the_next(folder: Path) -> None:
    script = f"import os; from conveyor.store.sqlite.wake import Postbox; assert Postbox({ID!r}).open(); os._exit(0)"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "TMPDIR": str(folder.parent)})
    (left,) = folder.iterdir()
    os.utime(left, (LONG_AGO, LONG_AGO))
    box = Postbox(ID)
    assert box.open()
    box.close()
    assert not folder.exists()


def test_folders_of_files_that_nobody_opens_again_go_too(folder: Path) -> None:
    forgotten = folder.with_name(f"conveyor-{os.getuid()}-forgotten")
    leave_a_socket(forgotten)
    alive = Postbox("alive")
    assert alive.open()
    box = Postbox(ID)
    assert box.open()
    assert not forgotten.exists()
    ring("alive")
    assert heard(alive) == NAMES
    box.close()
    alive.close()


def test_a_folder_that_goes_while_somebody_comes_in_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder = Postbox._make_folder
    goes = iter([True, True, False])

    def make_and_go(box: Postbox) -> bool:
        made = make_folder(box)
        if next(goes):
            folder.rmdir()
        return made

    monkeypatch.setattr(Postbox, "_make_folder", make_and_go)
    box = Postbox(ID)
    assert box.open()
    ring()
    assert heard(box) == NAMES
    box.close()


def test_who_comes_in_while_the_last_one_goes_is_heard(folder: Path) -> None:
    deaf: list[int] = []

    def come_and_go() -> None:
        for round_ in range(50):
            box = Postbox(ID)
            if not box.open():
                deaf.append(round_)
                continue
            ring()
            if heard(box) != NAMES:
                deaf.append(round_)
            box.close()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not deaf
    assert not folder.exists()


def test_a_link_is_not_followed(folder: Path) -> None:
    private = folder.with_name("private")
    left = leave_a_socket(private)
    folder.symlink_to(private)
    box = Postbox(ID)
    assert not box.open()
    box.ring(NAMES)
    box.close()
    assert left.exists()
