"""`conveyor demo`: what it reads, what it counts, when it is content, and that nothing is left behind."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conveyor_apps.demo import DemoSettings, main
from conveyor_apps.demo.children import Children
from conveyor_apps.demo.interrupts import Interrupts
from conveyor_apps.demo.progress import Event, Mark, Progress, read_event
from conveyor_apps.demo.screen import LiveScreen, PlainScreen, open_screen
from conveyor_apps.demo.settings import DemoError, DemoUsageError
from conveyor_apps.demo.stage import Stage
from conveyor_apps.demo.summary import Day, judge, savings

RUN = "manual-trigger-1"
GONE = 7


def console() -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=200, highlight=False), output


def day(name: str, *, new: int, calls: int, failed: tuple[int, ...] = (GONE,)) -> Day:
    result: dict[str, Any] = {
        "status": "partial",
        "movies_fetched": 50,
        "roasts_processed": 49,
        "roasts_generated": new,
        "roasts_cached": 49 - new,
        "roasts_failed": len(failed),
        "failed_movie_ids": list(failed),
    }
    progress = Progress(result=result, calls={"tmdb": calls}, marks={Mark.DEAD: 1})
    return Day(name=name, progress=progress, movies=50, new=new)


@pytest.mark.parametrize(
    ("line", "mark", "text"),
    [
        (f"[Queue][{RUN}] Processing Dune...", Mark.START, "Processing Dune..."),
        (f"[Queue][{RUN}] ✓ Dune (31ms)", Mark.DONE, "Dune (31ms)"),
        (f"[Queue][{RUN}] ✗ Dune: brave answered 429 X: wait", Mark.LIMITED, "Dune: brave answered 429 X: wait"),
        (f"[Queue][{RUN}] ✗ Dune: tmdb answered 503 9: offline", Mark.FAILED, "Dune: tmdb answered 503 9: offline"),
        (f"[Alert][{RUN}] ✗ Dune: dead after 1 attempts (gone)", Mark.DEAD, "Dune: dead after 1 attempts (gone)"),
        (f"[Cron][{RUN}] 50 movies, 50 to do", Mark.NOTE, "50 movies, 50 to do"),
    ],
)  # fmt: skip
def test_every_log_line_is_read_by_the_documents_words(line: str, mark: Mark, text: str) -> None:
    assert read_event(line) == Event(mark=mark, text=text)


def test_progress_takes_in_only_what_is_new() -> None:
    progress = Progress()
    lines = [{"message": f"[Queue][{RUN}] Processing Dune..."}]
    movies = [{"outcome": None}, {"outcome": "cached"}]
    assert len(progress.take({"run": None, "movies": movies, "logs": lines}, {}, seconds=1)) == 1
    lines.append({"message": f"[Queue][{RUN}] ✓ Dune (3ms)"})
    [event] = progress.take({"run": {"status": "success"}, "movies": movies, "logs": lines}, {"tmdb": 2}, seconds=2)
    assert event.mark is Mark.DONE
    assert (progress.total, progress.ended, progress.is_over) == (2, 1, True)


def test_right_numbers_leave_nothing_to_say() -> None:
    first, second = day("day 1", new=49, calls=159), day("day 2", new=2, calls=12)
    assert judge(first, second, gone_movie_id=GONE) == []
    assert round(savings(first, second), 2) == 0.92


def test_wrong_numbers_are_each_named() -> None:
    first, second = day("day 1", new=49, calls=100), day("day 2", new=2, calls=100, failed=())
    problems = judge(first, second, gone_movie_id=GONE)
    assert [problem.split(":")[0] for problem in problems] == [
        "day 2",
        "day 2",
        "day 2",
        "only 0% of the provider calls were saved",
    ]
    assert "day 2: failed_movie_ids is [], not [7]" in problems


@pytest.mark.parametrize("flags", [{"movies": 4}, {"movies": 301}, {"processes": 0}, {"processes": 9}])
def test_wrong_flags_are_a_usage_error(flags: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(**flags) == 2  # type: ignore[arg-type]  # flags by name
    assert "error: --" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DemoUsageError, match="not an empty folder"):
        DemoSettings(data=tmp_path).check()
    DemoSettings(data=tmp_path / "new").check()


def test_none_of_the_users_keys_or_settings_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"TMDB_API_KEY": "mine", "XAI_MODEL": "mine", "CONVEYOR_URL": "mine", "PLOTBURN_ALERT_WEBHOOK": "mine",
            "CRON_MODE": "mine", "API_SECRET_KEY": "mine", "RESEARCH_PROVIDER": "mine", "KV_VERSION": "mine"}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    with Children(Interrupts()) as children:
        stage = Stage(DemoSettings(), children, tmp_path)
        environment = stage.environment()
        stage.close()
    assert "mine" not in environment.values()
    assert environment["PATH"] == os.environ["PATH"]


def test_a_picture_is_for_terminals_and_lines_are_for_the_rest() -> None:
    assert isinstance(open_screen(Console(force_terminal=True, file=io.StringIO())), LiveScreen)
    plain, output = console()
    progress = Progress(result={"status": "success"})
    with open_screen(plain) as screen:
        assert isinstance(screen, PlainScreen)
        screen.show(progress, [Event(mark=Mark.DONE, text="[Dune] (3ms)"), Event(mark=Mark.START, text="hidden")])
    assert output.getvalue().splitlines()[0] == "  ✓ [Dune] (3ms)"
    assert "hidden" not in output.getvalue()


def test_the_picture_is_drawn_without_a_hitch() -> None:
    output = io.StringIO()
    with LiveScreen(Console(force_terminal=True, file=output, width=120)) as screen:
        screen.show(Progress(total=2), [Event(mark=Mark.DONE, text="Dune"), Event(mark=Mark.DEAD, text="Gone")])
    assert "dead letter: Gone" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.getvalue())


def test_a_child_that_dies_at_birth_is_shown_with_its_last_words(tmp_path: Path) -> None:
    with Children(Interrupts()) as children:
        arguments = ["-c", "import sys; print('no luck'); sys.exit(3)"]
        child = children.start("the sandbox", arguments, log=tmp_path / "log", environment=os.environ)
        with pytest.raises(DemoError, match=r"the sandbox ended with code 3:\nno luck"):
            child.wait_until(lambda: False)


def test_children_are_ended_whatever_happens(tmp_path: Path) -> None:
    arguments = [
        "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)",
    ]
    with pytest.raises(DemoError, match="trouble"), Children(Interrupts()) as children:
        child = children.start("a stubborn one", arguments, log=tmp_path / "log", environment=os.environ)
        child.wait_until(lambda: "up" in child.text())
        child.patience_s = 0.1
        raise DemoError("trouble")
    with pytest.raises(DemoError, match="ended with code -9"):
        child.check_alive()


def test_a_signal_waits_until_what_must_be_finished_is_finished() -> None:
    interrupts, finished = Interrupts(), False
    with interrupts.listening(), pytest.raises(KeyboardInterrupt):
        with interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            finished = True
        raise AssertionError("the signal was lost")
    assert finished
    with interrupts.listening(), interrupts.ignored():
        signal.raise_signal(signal.SIGINT)


def test_two_small_days_come_out_right_and_leave_nothing_behind(tmp_path: Path) -> None:
    shown, output = console()
    assert main(movies=6, processes=1, data=tmp_path / "demo", console=shown) == 0, output.getvalue()
    assert "5 roasts and 1 dead letter: the numbers are right" in output.getvalue()
    assert_server_is_down(output.getvalue())


def test_an_interrupt_in_the_middle_stops_both_servers(tmp_path: Path) -> None:
    arguments = [sys.executable, "-u", "-m", "conveyor_apps.demo", "--movies", "40"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        before = ""
        while "✓" not in before:
            line = process.stdout.readline()
            assert line, before
            before += line
        process.send_signal(signal.SIGINT)
        after = process.stdout.read()
        assert process.wait(60) == 130
    assert "nothing is left running" in after
    assert_server_is_down(before)


def assert_server_is_down(output: str) -> None:
    """Neither server answers any more."""
    ports = re.findall(r"(?:server|providers) +http://127\.0\.0\.1:(\d+)", output)
    assert len(ports) == 2
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0
