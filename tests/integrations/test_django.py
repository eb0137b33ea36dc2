"""Django's tasks backend: each project in a process of its own, on the store and the database that it is given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from house.source import ROOT
from kit.postgres import the_server

EXAMPLE = ROOT / "examples" / "django_shop"
HERE = Path(__file__).resolve().parent


def _look(store: str, database: str) -> None:
    command = [sys.executable, "-W", "error", "-c", "import in_django; in_django.main()", store, database]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "all is well\n", done.stdout + done.stderr


def test_on_files_tasks_are_sent_after_the_commit(tmp_path: Path) -> None:
    _look(f"sqlite:///{tmp_path}/conveyor.db", f"sqlite:///{tmp_path}/django.db")


def _a_database(name: str) -> str:
    server = the_server().url().partition("?")[0]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres", f"/{name}")


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "apart"])
def test_on_postgresql_tasks_are_part_of_the_transaction_if_they_can_be(is_shared: bool) -> None:
    database = _a_database(f"django_{is_shared}_{os.getpid()}".lower())
    store = database if is_shared else _a_database(f"conveyor_{os.getpid()}")
    _look(store, database)


def test_the_example_runs(tmp_path: Path) -> None:
    ours = {"CONVEYOR_URL": f"sqlite:///{tmp_path}/shop.db", "SHOP_DATABASE": f"{tmp_path}/django.db"}
    environment = {**os.environ, **ours, "PYTHONDONTWRITEBYTECODE": "1"}

    def manage(*words: str) -> list[str]:
        return [sys.executable, "-W", "error", "manage.py", *words]

    with (tmp_path / "work.log").open("wb") as log:
        work = subprocess.Popen(manage("conveyor_work"), cwd=EXAMPLE, env=environment, stdout=log, stderr=log)
    try:
        order = manage("order", "lamp")
        done = subprocess.run(
            order, cwd=EXAMPLE, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        work.send_signal(signal.SIGTERM)
        assert work.wait(timeout=60) == 0, (tmp_path / "work.log").read_text(encoding="utf-8")
    assert done.stdout.splitlines() == [
        "send_mail SUCCESSFUL after 1: \"'your order' is on its way to ann\"",
        'price SUCCESSFUL after 1: {"item": "lamp", "cents": 400, "attempt": 1}',
        "break_it FAILED after 2: LookupError: no lamp in stock",
    ], done.stderr
