"""Which stores there are, and in which of them a queue lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from conveyor.model.errors import InvalidSettingError
from conveyor.model.ids import IdSource
from conveyor.store.chosen import choose_stores, environment_of
from conveyor.store.routed.numbers import common_owner, is_common, mark_of, own, place_in
from conveyor.store.routing import PLACES, Routing, place_of
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_consumer

MEDIA = {"media": "sqlite:///media.db"}


def routing(routes: dict[str, str], stores: dict[str, str] | None = None) -> Routing:
    made = Routing(url="sqlite:///home.db", stores=MEDIA if stores is None else stores, routes=routes)
    made.check()
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CONVEYOR_URL", "CONVEYOR_STORES", "CONVEYOR_ROUTES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


TABLE = """
[tool.conveyor]
url = "sqlite:///home.db"
[tool.conveyor.stores]
media = "sqlite:///${PLACE}/media.db"
[tool.conveyor.routes]
"video-old" = "home"
"video-*" = "media"
"""


def test_the_first_match_wins_and_the_rest_lives_at_home() -> None:
    table = routing({"video-old": "home", "video-*": "media", "*-old": "media"})
    assert [table.store_of(name) for name in ("video-1", "video-old", "mail-old", "mail")] == ["media", "home", "media", "home"]


def test_dead_letters_lie_where_their_queue_does() -> None:
    table = routing({"orders": "media", "*": "home"})
    assert table.store_of("orders-dlq") == table.store_of("orders-dlq-dlq") == "media"
    assert table.store_of("others-dlq") == "home"


@pytest.mark.parametrize(
    ("routes", "stores", "match"),
    [
        ({"v*": "nowhere"}, MEDIA, "no store has this name"),
        ({"v*": "media"}, {}, "no store has this name"),
        ({"v* d": "media"}, MEDIA, "no pattern"),
        ({"v-dlq": "media"}, MEDIA, "dead letters lie in the store of their queue"),
        ({}, {"home": "sqlite:///x.db"}, "the store of `url`"),
        ({}, {"not a name": "sqlite:///x.db"}, "is not a name"),
        ({}, {"media": 7}, "is no URL"),
        ({}, {"gt": "sqlite:///x.db", "jc": "sqlite:///y.db"}, "the same number"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(routes: dict[str, str], stores: dict[str, str], match: str) -> None:
    with pytest.raises(InvalidSettingError, match=match):
        routing(routes, stores)


@pytest.mark.parametrize("what", ["dead_letter_queue", "alert_queue"])
def test_a_death_must_not_need_two_stores(what: str) -> None:
    table = routing({"video-*": "media"})
    table.check_consumer("video-1", a_consumer(dead_letter_queue="video-1-dlq", alert_queue="video-alerts"))
    with pytest.raises(InvalidSettingError, match="lives in store `home`") as caught:
        table.check_consumer("video-1", a_consumer(**{what: "graves-dlq"}))
    assert '"graves" = "media"' in caught.value.hint


def test_a_rename_stays_within_a_store() -> None:
    table = routing({"video-*": "media"})
    table.check_rename("video-1", "video-2")
    table.check_rename("a", "b-dlq")
    with pytest.raises(InvalidSettingError, match="lives in store `home`, and `video-1` in `media`") as caught:
        table.check_rename("video-1", "films-dlq")
    assert '"films" = "media"' in caught.value.hint


def test_a_store_s_number_depends_on_its_name_alone() -> None:
    assert place_of("home") == 0
    places = [place_of(f"store-{number}") for number in range(100)]
    assert all(0 < place < PLACES for place in places)
    assert place_of("media") == 2502


def test_numbers_are_told_apart_and_found_again() -> None:
    mark = mark_of(PLACES - 1)
    assert (mark | 7) < 2**62 and place_in(mark | 7) == PLACES - 1 and own(mark | 7) == 7
    assert place_in(7) == 0 and own(7) == 7 and not is_common(mark | 7)


def test_owners_in_several_stores_are_numbered_in_order_and_fit_a_bigint() -> None:
    ids = IdSource(ManualClock())
    numbers = [common_owner(ids.new()) for _ in range(50)]
    assert numbers == sorted(set(numbers)) and all(is_common(each) and each < 2**63 for each in numbers)


def test_the_file_is_found_upward_and_its_paths_are_relative_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, TABLE)
    (folder / "src").mkdir()
    monkeypatch.chdir(folder / "src")
    monkeypatch.setenv("PLACE", "data files")
    table = choose_stores()
    assert table.url == f"sqlite:///{folder}/home.db"
    assert table.stores == {"media": f"sqlite:///{folder}/data%20files/media.db"}
    assert list(table.routes) == ["video-old", "video-*"]


def test_what_a_child_is_given_makes_it_choose_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, TABLE)
    monkeypatch.setenv("PLACE", "/data")
    table = choose_stores()
    for name, value in environment_of(table).items():
        monkeypatch.setenv(name, value)
    write(folder, "[tool.conveyor]\nurl = 'sqlite:///other.db'\n")
    assert choose_stores() == table


def test_one_url_in_python_means_one_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, TABLE)
    assert choose_stores("sqlite:///mine.db") == Routing(url="sqlite:///mine.db")
    monkeypatch.setenv("MEDIA", "sqlite:///m.db")
    given = choose_stores("sqlite:///mine.db", {"media": "${MEDIA}"}, {"v-*": "media"})
    assert given == Routing(url="sqlite:///mine.db", stores={"media": "sqlite:///m.db"}, routes={"v-*": "media"})


def test_the_environment_beats_the_file_name_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, TABLE)
    monkeypatch.setenv("CONVEYOR_URL", "sqlite:///env.db")
    monkeypatch.setenv("CONVEYOR_STORES", '{"media": "sqlite:///env-media.db"}')
    table = choose_stores()
    assert (table.url, table.stores) == ("sqlite:///env.db", {"media": "sqlite:///env-media.db"})
    assert list(table.routes) == ["video-old", "video-*"]
    monkeypatch.setenv("CONVEYOR_ROUTES", "{}")
    assert choose_stores().routes == {}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[tool.conveyor]\nurl = 7", "no URL"),
        ("[tool.conveyor]\nurl = 'sqlite:///${NOT_THERE}'", "NOT_THERE"),
        ("[tool.conveyor.stores]\nmedia = 7", "no table of names and text"),
        ("[tool.conveyor]\nroutes = 'media'", "no table of names and text"),
        ("[tool.conveyor", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(folder: Path, text: str, match: str) -> None:
    write(folder, text)
    with pytest.raises(InvalidSettingError, match=match):
        choose_stores()


def test_an_environment_that_cannot_be_read_is_refused_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_STORES", '{"media": "postgresql://u:secret@h/d"')
    with pytest.raises(InvalidSettingError, match="cannot be read") as caught:
        choose_stores()
    assert "secret" not in str(caught.value)


def test_other_people_s_projects_are_left_alone(folder: Path) -> None:
    write(folder, "[project]\nname = 'shop'\ndependencies = ['conveyor']\n")
    assert choose_stores() == Routing(url="sqlite:///conveyor.db")
